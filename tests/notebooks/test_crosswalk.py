"""Every function of spear_core that a notebook names in its prose is there under that name."""

import importlib
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
FILES = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "spear_core").rglob("*.py")]
# by every way to write them that leaves no doubt: `low_rank`, `spear.low_rank`, `halfspace.search`
PLACES = {".".join(path.parts[-1:]): ".".join(path.parts) for path in FILES if path.stem != "__init__"}
PLACES |= {".".join(path.parts[1:]): ".".join(path.parts) for path in FILES if path.stem != "__init__"}
PLACES |= {".".join(path.parts[1:-1]): ".".join(path.parts[:-1]) for path in FILES if path.stem == "__init__"}


def named_functions(text: str) -> list[tuple[str, str]]:
    """(module, name) of `module.name` and `spear_core.folder.module.name` in backticks, the module in full."""
    found = re.findall(r"`(?:spear_core\.)?([\w.]+)\.(\w+)`", text)
    return [(PLACES[module], name) for module, name in found if module in PLACES]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_named_functions_exist(path: Path):
    nb = nbformat.read(path, as_version=4)
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    missing = [
        f"{module}.{name}"
        for module, name in named_functions(text)
        if f"{module}.{name}" not in PLACES.values() and not hasattr(importlib.import_module(module), name)
    ]
    assert not missing


def test_the_glossary_names_every_step():
    nb = nbformat.read(ROOT / "notebooks" / "glossary.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in nb.cells)
    steps = {"low_rank", "sampling", "sparsity", "selection", "reconstruction"}
    assert {f"spear_core.spear.{step}" for step in steps} <= {module for module, _ in named_functions(text)}


def test_a_wrong_name_is_found():
    assert named_functions("`low_rank.split`, `spear_core.spear.low_rank.no_such`, `torch.outer`") == [
        ("spear_core.spear.low_rank", "split"),
        ("spear_core.spear.low_rank", "no_such"),
    ]
