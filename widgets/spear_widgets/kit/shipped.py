"""Where the notebooks and the stored measurements are: inside the package, or in the checkout that it is run from."""

from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path


def shipped(place: str) -> Traversable:
    """A folder that an installed tutorial carries along: "notebooks", or "benchmarks/results".

    A wheel has it under `spear_widgets/shipped`; an editable install reads the checkout's own.
    """
    inside = files("spear_widgets") / "shipped" / place
    return inside if inside.is_dir() else Path(__file__).resolve().parents[3] / place
