"""What the repository says of itself: README, versions, constraints."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

import spear_core
from spear_core.client import data
from spear_widgets.__main__ import main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGES = [*ROOT.glob("*.md"), *sorted(ROOT.glob("docs/*.md")), *sorted((ROOT / "notebooks").glob("*.ipynb"))]
CONSTRAINTS = [ROOT / "constraints.txt", ROOT / "constraints-oldest.txt"]


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")], ids=lambda page: page.name)
def test_local_links_lead_somewhere(page: Path):
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    missing = [
        link for link in links if "://" not in link and not (page.parent / link.split("#")[0]).exists()
    ]
    assert not missing


def test_readme_opens_with_a_described_picture():
    alt = re.match(r"!\[([^\]]+)\]\(docs/[^)]+\)", README)
    assert alt and len(alt[1].split()) >= 4


def test_readme_is_read_in_four_minutes():
    shown = re.sub(r"!\[[^\]]*\]|<[^>]*>", "", README)  # without what stands for a picture
    assert len(shown.split()) <= 800


def commands(text: str) -> list[list[str]]:
    """What the shell blocks of a page say, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.partition("#")[0].split() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


@pytest.mark.slow
@pytest.mark.parametrize("command", commands(README), ids=" ".join)
def test_every_command_of_the_readme_works(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What `make lab` starts is tested in test_command.py; here make says what it would do."""
    if command[0] == "make":
        if shutil.which("make") is None:
            pytest.skip("make is not installed; the page on installing says how it goes without")
        told = subprocess.run(
            [*command, "--dry-run", f"VENV={tmp_path}"], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert told.returncode == 0 and "pip install" in told.stdout
        return
    monkeypatch.chdir(tmp_path)
    assert command[0] == ".venv/bin/spear-tutorial" and PROJECT["scripts"].keys() == {"spear-tutorial"}
    try:
        status = main(command[1:])
    except SystemExit as ended:  # argparse, after --help
        status = int(ended.code or 0)
    assert status == 0
    assert "demo" not in command or (tmp_path / "recovered.png").exists()


def test_readme_names_only_existing_make_targets():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    pages = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", pages, flags=re.MULTILINE))
    assert {"lab", "test"} <= named
    assert not {name for name in named if not re.search(rf"^{name}:", makefile, flags=re.MULTILINE)}


def test_readme_lists_every_chapter():
    numbers = sorted(path.name[:2] for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    listed = re.findall(r"^\| (\d\d) ", README, flags=re.MULTILINE)
    assert set(numbers) <= set(listed), "every notebook needs its line under 'What you will learn'"


def test_readme_code_runs_as_it_stands_and_recovers_the_batch():
    code = re.search(r"## Your own model.*?```python\n(.*?)```", README, flags=re.DOTALL)
    assert code
    names: dict[str, Any] = {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(code[1], names)
    distances = torch.cdist(names["inputs"], names["inversion"].inputs).min(dim=1).values
    assert names["inversion"].certified
    assert distances.max() < 1e-4


def tables(text: str) -> list[list[str]]:
    """Markdown tables: runs of lines that begin with a bar."""
    runs = re.findall(r"(?:^\|.*(?:\n|\Z))+", text, flags=re.MULTILINE)
    return [run.splitlines() for run in runs]


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_tables_begin_with_their_heads(path: Path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = nbformat.reads(text, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    for head, line, *rows in tables(text):
        assert re.fullmatch(r"(\|:?-+:?)+\|", line), f"below {head}"
        assert not any(re.fullmatch(r"(\|:?-+:?)+\|", row) for row in rows), head


def test_glossary_words_are_in_order():
    glossary = nbformat.read(ROOT / "notebooks" / "glossary.ipynb", as_version=4)
    (source,) = [cell.source for cell in glossary.cells if cell.source.startswith("## Words")]
    ((_, _, *rows),) = tables(source)
    words = [row.split("|")[1].strip().lower() for row in rows]
    assert words == sorted(words)


def test_versions_agree():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {spear_core.__version__}\n" in citation
    assert PROJECT["name"] == "spear-tutorial"


@pytest.mark.parametrize("path", CONSTRAINTS, ids=lambda p: p.name)
def test_constraints_hold_names_and_versions_only(path: Path):
    for line in path.read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r"[a-z0-9.-]+==[A-Za-z0-9.!+]+( ; [^/@]+)?", line), line


@pytest.mark.parametrize("path", CONSTRAINTS, ids=lambda p: p.name)
def test_constraints_pin_every_direct_dependency(path: Path):
    pinned = {line.split("==")[0] for line in path.read_text(encoding="utf-8").splitlines()}
    wanted = {re.split(r"[<>=!~\[; ]", d)[0] for d in PROJECT["dependencies"]}
    wanted |= {re.split(r"[<>=!~\[; ]", d)[0] for d in PROJECT["optional-dependencies"]["dev"]}
    assert wanted <= pinned


WORKFLOWS = sorted((ROOT / ".github").rglob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_workflows_are_yaml_and_call_what_is_there(path: Path):
    """They run on servers that no test reaches; what can be known here is their form and what they name."""
    yaml = pytest.importorskip("yaml")
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for job in content.get("jobs", {}).values():
        assert {"runs-on", "steps"} <= job.keys()
        for command in (step["run"] for step in job["steps"] if "run" in step):
            assert not command.startswith("make ") or f"\n{command.split()[1]}:" in makefile
            assert not command.startswith(".") or (ROOT / command).exists()


def test_every_photograph_is_credited():
    credits = (ROOT / "CREDITS.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`.* \| (.+) \| (.+) \| (.+) \|$", credits, flags=re.MULTILINE)
    photographs = {*data.SKIMAGE_PHOTOS, *data.SKLEARN_PHOTOS}
    assert {name for name, *_ in rows} == photographs
    assert all(author and licence and source for _, author, licence, source in rows)


MODULES = {"pillow": "PIL", "scikit-image": "skimage", "scikit-learn": "sklearn"}
BROUGHT = {"IPython", "traitlets"}  # by ipywidgets
ASKED_FOR = {"safetensors"}  # by a reader's own file; where it is missing, the error names it


def imported(source: str) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name.partition(".")[0] for name in names}


def test_notebooks_need_no_more_than_is_installed_for_them():
    wanted = {re.split(r"[<>=!~\[; ]", dependency)[0] for dependency in PROJECT["dependencies"]}
    installed = {MODULES.get(name, name) for name in wanted}
    sources = [
        path.read_text(encoding="utf-8")
        for room in ("spear_core", "widgets")
        for path in (ROOT / room).rglob("*.py")
    ]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        sources += [
            re.sub(r"^\s*[%!].*", "", c.source, flags=re.MULTILINE) for c in cells if c.cell_type == "code"
        ]
    used = set().union(*map(imported, sources)) - set(sys.stdlib_module_names)
    assert used - {"spear_core", "spear_widgets"} <= installed | BROUGHT | ASKED_FOR
    assert {"torch", "anywidget", "skimage"} <= used
