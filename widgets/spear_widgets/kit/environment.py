"""One line at the top of each notebook: is what it needs there? And one thread for its small matrices."""

from importlib.metadata import PackageNotFoundError, version

import torch

NEEDED = {"ipywidgets": 8, "torch": 2, "matplotlib": 3}


def ready() -> str:
    """Versions that the notebook runs with, and what to do if a widget shows only a picture.

    From here on PyTorch uses one thread: two of them wait for each other on matrices as small as a lesson's, and far
    more where something else runs beside them.

    Raises:
        RuntimeError: if a package is missing or too old, with the command that helps.
    """
    for name, major in NEEDED.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "none"
        if not found.split(".")[0].isdigit() or int(found.split(".")[0]) < major:
            raise RuntimeError(
                f"{name} must be {major} or newer, got {found}: run `make env` in the project's folder"
            )
    torch.set_num_threads(1)
    versions = ", ".join(f"{name} {version(name).split('.')[0]}" for name in NEEDED)
    return f"Ready with {versions}. A widget without its sliders has no kernel: run all cells."
