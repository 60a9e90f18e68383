"""What every linear layer of a model would give away, without a search."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from spear_core.attack.counting import count_samples
from spear_core.attack.inversion import table
from spear_core.attack.options import METHODS, check_options
from spear_core.attack.plan import check_method, first_split, in_words, obstacles, prepared
from spear_core.errors import InputError
from spear_core.front.bound import Bound, bound
from spear_core.front.part import front_of
from spear_core.model.calls import LinearCall
from spear_core.model.following import follow
from spear_core.model.layers import problem_of
from spear_core.model.parameters import Gradients, strip
from spear_core.model.reading import Reading, choose, read
from spear_core.problem import Problem
from spear_core.search import Budget
from spear_core.spear.sampling import expected_draws

SAMPLING_RATE = 1e6  # candidates a second on two cores, for the hint below
NAMED = 2  # layers at most that a refusal proposes in the place of another
PATIENCE = 600.0  # seconds of sampling beyond which it does not count as a way


@dataclass(frozen=True)
class LayerDiagnosis:
    """What one linear layer would give."""

    name: str  # dotted
    shape: tuple[int, int]  # (m, n) of its weight
    rank: int | None  # of its gradient, the batch size where it is small; None without a gradient
    zeros: float  # share of entries of the gradient that are exactly zero; NaN without a gradient
    follows: str  # what its output goes through
    methods: tuple[str, ...]  # that apply
    obstacle: str  # what stands in the way and what to do; empty if nothing does
    notes: tuple[str, ...] = ()  # what a reader should know besides


@dataclass(frozen=True)
class Diagnosis:
    """What a model's gradients would give; prints as a table, shows as one in a notebook.

    Attributes:
        layers: linear layers in forward order.
        attacked: name of the layer that `invert` takes by default; None if it would refuse.
        verdict: what to do, in a sentence.
        bound: with `input_shape`, whether the network's own inputs can be exact; None where it cannot be told.
    """

    layers: tuple[LayerDiagnosis, ...]
    attacked: str | None
    verdict: str
    bound: Bound | None = None

    def __getitem__(self, name: str) -> LayerDiagnosis:
        return next(layer for layer in self.layers if layer.name == strip(name))

    def _rows(self) -> list[tuple[str, ...]]:
        head = ("layer", "m × n", "rank", "zeros", "followed by", "methods", "remarks")
        rows = [
            (
                layer.name + ("  ←" if layer.name == self.attacked else ""),
                f"{layer.shape[0]} × {layer.shape[1]}",
                "–" if layer.rank is None else str(layer.rank),
                "–" if layer.rank is None else f"{layer.zeros:.0%}",
                layer.follows,
                ", ".join(layer.methods) or "none",
                "; ".join(filter(None, (layer.obstacle, *layer.notes))),
            )
            for layer in self.layers
        ]
        return [head, *rows]

    def __repr__(self) -> str:
        rows = self._rows()
        *widths, _ = (max(map(len, column)) for column in zip(*rows))
        widths.append(0)  # the remarks, which end the line, are not padded
        lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)) for row in rows]
        said = [self.verdict] if self.bound is None else [self.verdict, str(self.bound)]
        return "\n".join(["Diagnosis", *("  " + line for line in [*lines, *said])])

    def _repr_html_(self) -> str:
        head, *rows = self._rows()
        kinds = [("h", head), *(("d", row) for row in rows)]
        said = self.verdict if self.bound is None else f"{self.verdict}; {self.bound}"
        return table(said, ([(kind, text) for text in row] for kind, row in kinds))


@torch.inference_mode(False)
def diagnose(
    model: nn.Module,
    gradients: Gradients,
    *,
    example_input: object = None,
    input_shape: Sequence[int] | None = None,
) -> Diagnosis:
    """What each linear layer would give, what stands in the way, and what to do. No search.

    Takes the model, the gradients, the example and the shape of one input that `invert` takes. With a shape, says
    whether the network's own inputs can be exact, cannot, whoever attacks, or whether that is not known.

    Raises:
        InputError: gradients that do not belong to the model, a shape that does not, or a model without linear layers.

    >>> model = nn.Sequential(nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 5))
    >>> loss = nn.functional.cross_entropy(model(torch.eye(12)[:3]), torch.tensor([0, 1, 2]))
    >>> found = diagnose(model, torch.autograd.grad(loss, model.parameters()))
    >>> found.attacked, found["0"].rank, found["0"].follows, found["2"].follows
    ('0', 3, 'ReLU', 'output')
    """
    check_options(input_shape=input_shape)
    reading = read(model, gradients, example_input)
    layers = tuple(_diagnose_layer(reading, call) for call in reading.calls)
    try:
        call, notes = choose(reading, None)
    except InputError as error:
        return Diagnosis(layers, None, f"invert(model, gradients) refuses: {error}")
    chosen = next(layer for layer in layers if layer.name == call.name)
    if chosen.methods:
        ways = " or ".join(chosen.methods)
        skipped = f" ({notes[0]})" if notes else ""
        verdict = f"invert(model, gradients) attacks layer {call.name!r} by {ways}{skipped}"
        return Diagnosis(layers, call.name, verdict, _bound(reading, call, chosen, input_shape))
    verdict = f"layer {call.name!r} cannot be attacked: {chosen.obstacle}{_instead(layers)}"
    return Diagnosis(layers, None, verdict, _bound(reading, call, chosen, input_shape))


def _bound(
    reading: Reading, call: LinearCall, layer: LayerDiagnosis, input_shape: Sequence[int] | None
) -> Bound | None:
    if input_shape is None or layer.rank is None or layer.rank >= min(layer.shape):
        return None  # a rank that is no larger tells no batch size
    G = reading.gradient(call.weight)
    assert G is not None
    front = front_of(reading, call, tuple(map(int, input_shape)), G)
    return bound(reading.traced, front, reading.gradients, layer.rank, look=bool(layer.methods))


def attackable(reading: Reading, layer: str | None, method: str) -> Problem:
    """The problem of attacking a layer, the named one or the first; a refusal says which other layer would do."""
    (call, notes), met, problem = choose(reading, layer), "", None
    try:
        problem = problem_of(reading, call, notes)
        met = f" ({_follows(reading, call)} follows)"
        check_method(method, problem)
    except InputError as error:
        if problem is not None and method == "auto" and first_split(problem)[1].batch_size == 1:
            return problem  # of one sample, whatever follows
        others = (_diagnose_layer(reading, other) for other in reading.calls if other is not call)
        raise type(error)(f"{error}{met}{_instead(others)}") from None
    return problem


def _follows(reading: Reading, call: LinearCall) -> str:
    return follow(reading.traced, call, reading.calls).describe(reading.traced.root)


def _instead(layers: Iterable[LayerDiagnosis]) -> str:
    """Some layers to try in the place of one that cannot be attacked, as the end of a sentence.

    A look at a layer takes time, which a refusal should not.
    """
    some = islice((layer for layer in layers if layer.methods), NAMED)
    ways = [(layer.name, layer.follows, " or ".join(layer.methods)) for layer in some]
    listed = ", ".join(f"layer={name!r} ({follows} follows; {methods})" for name, follows, methods in ways)
    return f"; try {listed}" if ways else ""


def _refused(problem: Problem, method: str) -> str:
    """What `invert` says to a method that is named, and looks at the ranks in its own way; empty if it begins."""
    try:
        prepared(problem, method, None, None, Budget(torch.Generator().manual_seed(0)))
    except InputError as error:
        return str(error)
    return ""


def _diagnose_layer(reading: Reading, call: LinearCall) -> LayerDiagnosis:
    G = reading.gradient(call.weight)
    zeros = float("nan") if G is None else 1 - int(G.count_nonzero()) / G.numel()
    rank: int | None = None
    notes: tuple[str, ...] = ()
    follows = _follows(reading, call)
    try:
        problem = problem_of(reading, call)
        splits, low_rank = first_split(problem)
        rank, notes = low_rank.batch_size, problem.notes
        ways = obstacles(problem, rank, splits)
        # a rank that tells no batch stands in the way of every method
        if not all(ways.values()):
            count = count_samples(low_rank, splits)
            notes = (*notes, *filter(None, [count.note]))
            if count.batch_size > rank:
                ways |= dict.fromkeys(("sampling", "halfspace"), f"b = {count.batch_size} exceeds the rank")
                notes = (*notes, f"b = {count.batch_size}, as the next layer's gradient says")
            ways |= {name: _refused(problem, name) for name in ways if name in METHODS and not ways[name]}
            # which may take a later layer at its word
            if all(ways.values()) and not _refused(problem, "auto"):
                ways["auto"] = ""
        # and patience in that of sampling
        if not ways["sampling"] and expected_draws(low_rank.batch_size) > SAMPLING_RATE * PATIENCE:
            ways["sampling"] = f"too many draws at b = {rank}"
        methods = tuple(name for name, reason in ways.items() if not reason)
        obstacle = "" if methods else in_words(ways)
    except InputError as error:
        methods, obstacle = (), str(error)
    return LayerDiagnosis(call.name, call.shape, rank, zeros, follows, methods, obstacle, notes)
