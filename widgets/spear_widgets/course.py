"""All notebooks in their order, and the exercises in them."""

from dataclasses import dataclass
from types import ModuleType

from spear_widgets.kit.exercise import Exercise, OpenQuestion
from spear_widgets.limits import exercises as limits
from spear_widgets.low_rank import exercises as low_rank
from spear_widgets.networks import exercises as networks
from spear_widgets.sampling import exercises as sampling
from spear_widgets.scale import exercises as scale
from spear_widgets.selection import exercises as selection
from spear_widgets.sparsity import exercises as sparsity
from spear_widgets.start import exercises as start
from spear_widgets.theory import exercises as theory
from spear_widgets.two_shadows import exercises as two_shadows

MODULES = (start, low_rank, sparsity, sampling, selection, theory, two_shadows, scale, limits, networks)


@dataclass(frozen=True)
class Chapter:
    """A notebook with exercises.

    Attributes:
        file: its name.
        title: what it is about.
        folder: of `spear_widgets`, which it imports.
        exercises: by the names of their variables, in their order.
    """

    file: str
    title: str
    folder: str
    exercises: dict[str, Exercise | OpenQuestion]


def chapters() -> list[Chapter]:
    """The notebooks that have exercises."""
    titles = (
        "Start here", "Low rank", "Sparsity", "Sampling", "Selection", "Theory", "Two shadows", "Attack at scale"
    )  # fmt: skip
    files = [f"{number:02}_{title.lower().replace(' ', '_')}.ipynb" for number, title in enumerate(titles)]
    longer = [
        ("08_limits_and_defences.ipynb", "Limits and defences"),
        ("09_networks_that_people_train.ipynb", "Networks that people train"),
    ]
    named = [*zip(files, titles), *longer]
    return [
        Chapter(*name, module.__name__.split(".")[1], exercises_of(module))
        for name, module in zip(named, MODULES)
    ]


def exercises_of(module: ModuleType) -> dict[str, Exercise | OpenQuestion]:
    """Exercises of a module in the order in which they stand there."""
    return {
        name: value for name, value in vars(module).items() if isinstance(value, (Exercise, OpenQuestion))
    }
