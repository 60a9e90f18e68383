"""What the repository says of itself: README, versions, constraints."""

import re
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

import spear_core

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGES = [*ROOT.glob("*.md"), *sorted((ROOT / "notebooks").glob("*.ipynb"))]
CONSTRAINTS = [ROOT / "constraints.txt", ROOT / "constraints-oldest.txt"]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_local_links_lead_somewhere(page: str):
    links = re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (ROOT / link.split("#")[0]).exists()]
    assert not missing


def test_readme_opens_with_a_described_picture():
    alt = re.match(r"!\[([^\]]+)\]\(docs/[^)]+\)", README)
    assert alt and len(alt[1].split()) >= 4


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
