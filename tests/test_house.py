"""The house as CONTRIBUTING draws it: few rooms, short ways through them, no long bodies. `-s` prints the sizes."""

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE, WIDGETS = ROOT / "spear_core", ROOT / "widgets"

# what the import statements of a module lead to, in the end: files and lines at most
CLOSURES = {
    "spear_core.spear.search": (16, 2400),  # the paper's loop, certificate included
    "spear_core.search": (6, 910),  # the record `State`, the protocol
}
MOST_LINES = {CORE: 14_800, WIDGETS: 12_950}
LONGEST = {
    "states": 35,
    "invert": 62,
}  # lines, docstring included, which in `invert` has one for each option; others:
LONGEST_FUNCTION = 60


def imports(path: Path) -> set[str]:
    """Modules that a file names in import statements, wherever they stand."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


def place(module: str) -> Path:
    return ROOT / (module.replace(".", "/") + ".py")


@cache
def closure(module: str) -> dict[str, int]:
    """Modules that an import leads to, with their lines; the faces of folders, `__init__`, aside."""
    found: dict[str, int] = {}
    left = [module]
    while left:
        name = left.pop()
        if name not in found and place(name).is_file():
            found[name] = lines(place(name))
            left += imports(place(name))
    return found


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def functions(folder: Path) -> dict[str, int]:
    """Lines of every function, by place and name."""
    return {
        f"{path.relative_to(ROOT)}: {node.name}": node.end_lineno - node.lineno + 1
        for path in folder.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None
    }


@pytest.mark.parametrize("module", CLOSURES)
def test_closures_do_not_grow(module: str):
    found, (files, most) = closure(module), CLOSURES[module]
    print(f"\n{module}: {len(found)} files, {sum(found.values())} lines")
    for name, count in sorted(found.items(), key=lambda item: -item[1]):
        print(f"  {count:5} {name}")
    assert len(found) <= files and sum(found.values()) <= most


def test_the_certificate_knows_no_search():
    rooms = ("attack", "fedavg", "coupled", "front", "consistency", "halfspace")
    searches = tuple(f"spear_core.{room}." for room in rooms)
    for path in (CORE / "certificate").glob("*.py"):
        reached = closure(f"spear_core.certificate.{path.stem}")
        assert not [
            name for name in reached if name.startswith(searches) or name == "spear_core.spear.search"
        ]


def test_a_listing_tells_the_story():
    folders = [path for path in CORE.iterdir() if path.is_dir() and path.name != "__pycache__"]
    assert len(folders) <= 12 and len(list(CORE.glob("*.py"))) <= 8
    for path in folders:
        assert ast.get_docstring(ast.parse((path / "__init__.py").read_text(encoding="utf-8"))), path.name


@pytest.mark.parametrize("folder", MOST_LINES, ids=lambda folder: folder.name)
def test_lines_do_not_grow(folder: Path):
    count = sum(lines(path) for path in folder.rglob("*.py"))
    print(f"\n{folder.name}: {count} lines in {len(list(folder.rglob('*.py')))} files")
    assert count <= MOST_LINES[folder]


@pytest.mark.parametrize("folder", MOST_LINES, ids=lambda folder: folder.name)
def test_no_function_is_long(folder: Path):
    found = functions(folder)
    print("\nlongest:", *sorted(found.items(), key=lambda item: -item[1])[:8], sep="\n  ")
    allowed = {place: LONGEST.get(place.rpartition(" ")[2], LONGEST_FUNCTION) for place in found}
    assert not {place: count for place, count in found.items() if count > allowed[place]}
