"""Explorer of step 4: swaps that raise λ, from a good start or a bad one."""

from dataclasses import replace
from functools import lru_cache

import torch
from PIL import Image

import spear_core
from spear_core.search import State
from spear_core.spear.records import Forward
from spear_core.spear.selection import select
from spear_widgets.kit import base, controls, drawing
from spear_widgets.kit.scene import DATA, Scene, scene
from spear_widgets.selection.panels import PlotPanels
from spear_widgets.selection.state_picture import state_picture

SEED = 11  # of data and weights: mixtures of many similar crops are in its pool
SIZES = range(5, 9)  # of the batch
RANKINGS = (("most zeros first", 0), ("shuffled, 1st", 1), ("shuffled, 2nd", 2), ("shuffled, 3rd", 3))


@lru_cache(maxsize=16)
def full_pool(stage: Scene) -> State:
    """The state of the real search in which step 4 begins.

    Raises:
        RuntimeError: if the search ends without one.
    """
    for state in spear_core.states(stage.problem, method="sampling", max_samples=50_000):
        if state.step == "selection":
            return state
    raise RuntimeError("the search must reach its selection, and it ended before")


@lru_cache(maxsize=32)
def swaps(stage: Scene, ranking: int) -> tuple[State, ...]:
    """`select` on that pool, every improvement as a state.

    Args:
        stage: a scene.
        ranking: 0: as the search ranks the pool; else the pool in a random order, so that the start is a bad one.
    """
    begin = full_pool(stage)
    pool = begin.pool
    if ranking:
        order = torch.randperm(len(pool), generator=torch.Generator().manual_seed(ranking))
        pool = replace(pool, zeros=order, unique=torch.zeros_like(pool.unique))
    forward = Forward.of(begin.low_rank, stage.layer)
    return tuple(
        replace(begin, chosen=found.chosen, reconstruction=found.reconstruction)
        for found in select(pool, forward)
    )


class SwapExplorer(base.Explorer):
    """Scrub through the improvements of step 4.

    Attributes:
        stage: client and server of the present batch.
        states: one for each improvement; the pool in them has its true zeros.
    """

    name = "swaps"
    title = "Swap directions as long as λ grows"
    description = (
        "Photographs computed from the directions chosen at the end of the swaps, with an error map, the pool with the "
        "chosen directions marked, and λ as it climbs with every swap."
    )

    def __init__(self) -> None:
        self._plot = PlotPanels("swaps made", first=0)
        super().__init__(
            {
                "data": controls.dropdown("data", DATA),
                "batch_size": controls.slider("batch size b", SIZES[-1], SIZES[0], SIZES[-1]),
                "ranking": controls.dropdown("start from", RANKINGS, 1),
                "position": controls.slider("swaps made", 0, 0, 0),
            },
            buttons=(
                self.button("− one swap", lambda: self.move("position", -1)),
                self.button("+ one swap", lambda: self.move("position", 1)),
            ),
        )
        self._key: tuple[object, ...] = ()
        with base.one_thread():
            for batch_size in SIZES:  # searched now, so that the slider does not wait for it
                swaps(scene("photos", batch_size, seed=SEED), 1)
        self.refresh()

    def update(self) -> None:
        """Draw the present setting; another pool or start begins with no swap."""
        values = self.values
        position = values.pop("position")
        key = tuple(values.values())
        self.stage = scene(values["data"], values["batch_size"], seed=SEED)
        self.states = swaps(self.stage, values["ranking"])
        with self.quietly():
            self.control["position"].max = len(self.states) - 1
            self.control["position"].value = position if key == self._key else 0
        self._key = key
        position = self.control["position"].value
        self.show("picture", self._picture(position))
        state, last = self.states[position], len(self.states) - 1
        self.say(
            f"{position} of {last} swaps: <b>λ = {state.sparsity_match:.4f}</b>. "
            f"{len(set(state.chosen) & set(self.states[-1].chosen))} of the {len(state.chosen)} directions are those "
            f"chosen at the end, where λ = {self.states[-1].sparsity_match:.4f}."
        )

    def _picture(self, position: int) -> Image.Image:
        return state_picture(self.stage, list(self.states[: position + 1]), self._plot)

    def static_picture(self) -> Image.Image:
        """The start and the end."""
        return drawing.below([self._picture(k) for k in dict.fromkeys([0, len(self.states) - 1])], gap=0)
