"""The widgets are a star: each notebook's folder imports the kit and no other folder, the kit imports no folder."""

import ast
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[2] / "widgets" / "spear_widgets"
FOLDERS = sorted(path.parent.name for path in HOME.glob("*/__init__.py"))


def imported(path: Path) -> set[str]:
    """Folders of the package that a module imports from."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module is not None
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts = [name.split(".") for name in names]
    assert not [part for part in parts if part[0] == "widgets"]
    return {part[1] for part in parts if part[0] == "spear_widgets"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_the_kit_and_itself_only(folder: str):
    for path in sorted((HOME / folder).glob("*.py")):
        assert imported(path) <= {folder, "kit"}, path.name


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_says_in_which_order_to_read_it(folder: str):
    said = ast.get_docstring(ast.parse((HOME / folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    modules = {path.stem for path in (HOME / folder).glob("*.py")} - {"__init__", "explore"}
    assert modules and all(f"`{name}`" in said for name in modules)
    assert "mport" in said


def test_every_notebook_has_its_folder():
    assert len(FOLDERS) == 12 and "kit" in FOLDERS
