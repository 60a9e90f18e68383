"""What strict nbval passes silently on: order, pictures without words, skips, magics, links, length.

Each check takes a notebook and its path and returns a list of what is wrong, in words. They run over every
notebook, and over a small faulty one each, so that a check that finds nothing is known to be able to.
"""

import ast
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
FORBIDDEN_NAMES = {"interact", "interact_manual", "interactive", "interactive_output", "Output"}
ALLOWED_MAGICS = {"matplotlib", "config", "precision"}
IMAGE_TYPES = ("image/png", "image/jpeg", "image/svg+xml")
# `Figure(640x480)`, `<PIL.Image …>`, `VBox(children=…)`: the repr of an object, not a description of it.
REPR = re.compile(r"^\s*(<.*>|\w+\(.*\))\s*$", re.DOTALL)
PRIVATE = re.compile(
    r"/(home|root|tmp|Users|usr|opt|work|mnt)/\w|\b[A-Z]:\\\w|file://|localhost|127\.0\.0\.1|\b0x[0-9a-fA-F]{6,}"
)


# ---------------------------------------------------------------- reading a notebook
def is_chapter(path: Path) -> bool:
    """Chapters are numbered (`03_sampling.ipynb`); glossary and notation are not."""
    return re.match(r"\d\d_(?!.*glossary)", path.name) is not None


def chapters(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.glob("*.ipynb")) if is_chapter(p)]


def code_cells(nb: NotebookNode) -> list[NotebookNode]:
    return [c for c in nb.cells if c.cell_type == "code"]


def prose(nb: NotebookNode) -> str:
    """All Markdown, without fenced code."""
    text = "\n\n".join(c.source for c in nb.cells if c.cell_type == "markdown")
    return re.sub(r"^(```|~~~).*?^\1\s*$", "", text, flags=re.DOTALL | re.MULTILINE)


def outputs(nb: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    for cell in code_cells(nb):
        for output in cell.outputs:
            yield cell.execution_count, output


def as_text(value: object) -> str:
    return "".join(value) if isinstance(value, list) else str(value)


def python_of(cell: NotebookNode) -> str:
    """The cell's source with magics commented out."""
    return re.sub(r"^(\s*)[%!]", r"\1#", cell.source, flags=re.MULTILINE)


def links(nb: NotebookNode) -> list[str]:
    text = prose(nb)
    found = re.findall(r"\]\(\s*<?([^)\s>]+)>?[^)]*\)", text)
    found += re.findall(r"(?:href|src)\s*=\s*[\"']([^\"']+)[\"']", text)
    found += re.findall(r"^\[[^\]]+\]:\s*(\S+)", text, flags=re.MULTILINE)
    return found


# ---------------------------------------------------------------- the checks
def check_format(nb: NotebookNode, path: Path) -> list[str]:
    problems = []
    if nb.metadata.get("kernelspec", {}).get("name") != "python3":
        problems.append("kernelspec must be python3")
    if "widgets" in nb.metadata:
        problems.append("stored widget state: run `make notebooks`, which leaves it out")
    for number, cell in enumerate(nb.cells, 1):
        if "execution" in cell.metadata:
            problems.append(f"cell {number}: stored run times change with every run")
        if not cell.source.strip():
            problems.append(f"cell {number}: empty")
    try:
        nbformat.validate(nb)
    except nbformat.ValidationError as error:
        problems.append(f"not a valid notebook: {error}")
    return problems


def check_executed_in_order(nb: NotebookNode, path: Path) -> list[str]:
    counts = [c.execution_count for c in code_cells(nb)]
    wanted = list(range(1, len(counts) + 1))
    return [] if counts == wanted else [f"execution counts must be 1..{len(counts)}, got {counts}"]


def check_no_errors(nb: NotebookNode, path: Path) -> list[str]:
    problems = []
    for count, output in outputs(nb):
        if output.output_type == "error":
            problems.append(f"In [{count}]: raised {output.ename}: {output.evalue}")
        if output.output_type == "stream" and output.name == "stderr":
            problems.append(f"In [{count}]: wrote to stderr: {as_text(output.text)[:80]!r}")
    return problems


def check_names_and_magics(nb: NotebookNode, path: Path) -> list[str]:
    problems = []
    for cell in code_cells(nb):
        where = f"In [{cell.execution_count}]"
        for name in re.findall(r"^\s*%%?(\w+)", cell.source, flags=re.MULTILINE):
            if name not in ALLOWED_MAGICS:
                problems.append(f"{where}: magic %{name} is not in {sorted(ALLOWED_MAGICS)}")
        if re.search(r"^\s*!", cell.source, flags=re.MULTILINE):
            problems.append(f"{where}: shell command")
        problems += [f"{where}: {fault}" for fault in forbidden_names(python_of(cell))]
    return problems


def forbidden_names(source: str) -> list[str]:
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return [f"not Python: {error}"]
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found.update(alias.name for alias in node.names)
    return [f"uses {name}" for name in sorted(found & FORBIDDEN_NAMES)]


def check_skips_have_a_reason(nb: NotebookNode, path: Path) -> list[str]:
    """A marker comment must be followed by a comment of at least four words; tags cannot say why."""
    problems = []
    for number, cell in enumerate(nb.cells, 1):
        for tag in cell.metadata.get("tags", []):
            if tag.startswith("nbval-") or tag == "raises-exception":
                problems.append(
                    f"cell {number}: tag {tag} gives no reason; use the comment and say why below it"
                )
        lines = [line.strip() for line in cell.source.splitlines()]
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            if re.fullmatch(r"#\s*(NBVAL|PYTEST_VALIDATE)_\w+", line):
                reason = following.lstrip("# ") if following.startswith("#") else ""
                if len(reason.split()) < 4:
                    problems.append(f"cell {number}: {line} needs a reason in a comment on the next line")
    return problems


def check_text_alternatives(nb: NotebookNode, path: Path) -> list[str]:
    problems = []
    text = prose(nb)
    for alt, target in re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text):
        if len(alt.split()) < 2:
            problems.append(f"image {target[:60]} has no text alternative")
    for tag in re.findall(r"<img\b[^>]*>", text):
        alternative = re.search(r"\balt\s*=\s*([\"'])(.*?)\1", tag, flags=re.DOTALL)
        if alternative is None or len(alternative[2].split()) < 2:
            problems.append(f"{tag[:60]} has no text alternative")
    for count, output in outputs(nb):
        data = output.get("data", {})
        if not (WIDGET_VIEW in data or any(kind in data for kind in IMAGE_TYPES)):
            continue
        described = as_text(data.get("text/plain", ""))
        if REPR.match(described) or len(described.split()) < 4:
            problems.append(f"In [{count}]: text/plain must describe the picture, got {described[:60]!r}")
        for kind in IMAGE_TYPES:
            if kind in data and not image_alt(output, kind):
                problems.append(f'In [{count}]: metadata must be {{"{kind}": {{"alt": …}}}}')
    return problems


def check_widgets_without_a_kernel(nb: NotebookNode, path: Path) -> list[str]:
    """A button, the view alone, and what stands for it: see `spear_widgets.kit.kept`."""
    problems = []
    for cell in code_cells(nb):
        kinds = [set(output.get("data", {})) for output in cell.outputs]
        for before, view, after in zip([set(), *kinds], kinds, [*kinds[1:], set()]):
            where = f"In [{cell.execution_count}]: a widget"
            if WIDGET_VIEW in view and view != {WIDGET_VIEW, "text/plain"}:
                problems.append(f"{where}'s view must stand alone: JupyterLab would show nothing else")
            elif WIDGET_VIEW in view and not after & {"text/html", *IMAGE_TYPES}:
                problems.append(
                    f"{where} without a picture or text/html after it shows nothing without a kernel"
                )
            elif WIDGET_VIEW in view and "text/html" not in before:
                problems.append(f"{where} must have the button that runs the notebook before it")
    return problems


def image_alt(output: NotebookNode, kind: str = "image/png") -> str:
    """The text alternative of an output's picture, where nbconvert looks for it."""
    metadata = output.get("metadata", {})
    return metadata.get(kind, {}).get("alt") or metadata.get("alt") or ""


def check_headings(nb: NotebookNode, path: Path) -> list[str]:
    levels = [len(marks) for marks in re.findall(r"^(#{1,6})\s+\S", prose(nb), flags=re.MULTILINE)]
    problems = []
    if levels.count(1) != 1 or levels[0] != 1:
        problems.append(f"must have one H1, and first, got levels {levels}")
    problems += [
        f"heading {i + 2} jumps from H{a} to H{b}"
        for i, (a, b) in enumerate(itertools.pairwise(levels))
        if b > a + 1
    ]
    return problems


def check_links(nb: NotebookNode, path: Path) -> list[str]:
    problems = []
    for link in links(nb):
        if re.match(r"(https?:|mailto:|attachment:|data:|#)", link):
            continue
        target = (path.parent / link.split("#")[0]).resolve()
        if not target.exists():
            problems.append(f"link to {link}: no such file")
        elif not target.is_relative_to(path.parent.parent.resolve()):
            problems.append(f"link to {link}: leaves the project")
    return problems


def check_previous_and_next(nb: NotebookNode, path: Path) -> list[str]:
    if not is_chapter(path):
        return []
    order = chapters(path.parent)
    at = order.index(path)
    neighbours = [*order[max(at - 1, 0) : at], *order[at + 1 : at + 2]]
    linked = {link.split("#")[0].removeprefix("./") for link in links(nb)}
    return [f"must link to its neighbour {p.name}" for p in neighbours if p.name not in linked]


def check_nothing_private(nb: NotebookNode, path: Path) -> list[str]:
    problems = []
    for count, output in outputs(nb):
        texts = [as_text(output.get("text", ""))]
        texts += [as_text(v) for k, v in output.get("data", {}).items() if k.startswith("text/")]
        for text in texts:
            found = PRIVATE.search(re.sub(r"base64,[A-Za-z0-9+/=\s]+", "", text))
            if found:
                problems.append(f"In [{count}]: shows a local path or address: {found[0]}")
    return problems


def check_length(nb: NotebookNode, path: Path) -> list[str]:
    """25–40 cells, 800–1,500 words, at most 100 lines of visible code; 00 and the capstone may be shorter."""
    if not is_chapter(path) and path.stem != "capstone":
        return []
    fewest_cells, fewest_words = (10, 200) if path.stem.startswith(("00", "capstone")) else (25, 800)
    cells, words, lines = size(nb)
    problems = []
    if not fewest_cells <= cells <= 40:
        problems.append(f"must have {fewest_cells}–40 cells, got {cells}")
    if not fewest_words <= words <= 1500:
        problems.append(f"must have {fewest_words}–1500 words, got {words}")
    if lines > 100:
        problems.append(f"must show at most 100 lines of code, got {lines}")
    return problems


def size(nb: NotebookNode) -> tuple[int, int, int]:
    """Cells, words of prose (formulas count as one word each) and visible lines of code."""
    text = re.sub(r"<[^>]+>", " ", prose(nb))
    text = re.sub(r"\]\([^)]*\)", "] ", text)
    text = re.sub(r"\$\$.*?\$\$|\$[^$\n]*\$", " formula ", text, flags=re.DOTALL)
    words = len(re.findall(r"[^\W_]+(?:[-'’.,][^\W_]+)*", text))
    visible = [c for c in code_cells(nb) if not is_hidden(c)]
    lines = sum(1 for c in visible for line in c.source.splitlines() if line.strip())
    return len(nb.cells), words, lines


def is_hidden(cell: NotebookNode) -> bool:
    tags = set(cell.metadata.get("tags", []))
    return bool(cell.metadata.get("jupyter", {}).get("source_hidden") or tags & {"hide-input", "hide-cell"})


Check = Callable[[NotebookNode, Path], list[str]]
CHECKS: list[Check] = [
    check_format,
    check_executed_in_order,
    check_no_errors,
    check_names_and_magics,
    check_skips_have_a_reason,
    check_text_alternatives,
    check_widgets_without_a_kernel,
    check_headings,
    check_links,
    check_previous_and_next,
    check_nothing_private,
    check_length,
]


# ---------------------------------------------------------------- over every notebook
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__.removeprefix("check_"))
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook(path: Path, check: Check):
    problems = check(nbformat.read(path, as_version=4), path)
    assert not problems, "\n".join([path.name, *problems])


@pytest.mark.parametrize("path", sorted((ROOT / "widgets").rglob("*.py")), ids=lambda p: p.stem)
def test_widgets_use_no_output_and_no_interact(path: Path):
    assert forbidden_names(path.read_text(encoding="utf-8")) == []


# ---------------------------------------------------------------- over planted faults
PICTURE = {"image/png": "iVBORw0KGgo=", "text/plain": "Four photographs beside their gradient."}
ALT = {"image/png": {"alt": "Four photographs beside their gradient."}}
BUTTON = {"text/html": "<button>Run this notebook</button>", "text/plain": "Run this notebook for controls."}
VIEW = {WIDGET_VIEW: {"model_id": "1"}, "text/plain": "With controls: four photographs"}


def sound_notebook() -> NotebookNode:
    """The smallest notebook that passes every check, as chapter 01 between 00 and 02."""
    link = "[previous](00_a.ipynb) [next](02_c.ipynb)"
    cells = [
        new_markdown_cell(f"# Title\n\n{link}\n\n![A good picture](a.png)"),
        new_markdown_cell("## Part"),
    ]
    cells += [new_markdown_cell("word " * 40) for _ in range(22)]
    outputs = [new_output("display_data", data=data) for data in (BUTTON, VIEW)]
    outputs.append(new_output("display_data", data=PICTURE, metadata=ALT))
    cells.append(new_code_cell("show(4)", execution_count=1, outputs=outputs))
    cells.append(
        new_code_cell("print(1)", execution_count=2, outputs=[new_output("stream", text="rank 4\n")])
    )
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("00_a.ipynb", "01_b.ipynb", "02_c.ipynb", "a.png"):
        (tmp_path / "notebooks").mkdir(exist_ok=True)
        (tmp_path / "notebooks" / name).touch()
    return tmp_path / "notebooks"


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__.removeprefix("check_"))
def test_a_sound_notebook_passes(check: Check, folder: Path):
    assert check(sound_notebook(), folder / "01_b.ipynb") == []


def _output(nb: NotebookNode, **output: object) -> None:
    nb.cells[-1].outputs = [new_output(**output)]


def _shown(nb: NotebookNode, *bundles: dict) -> None:
    nb.cells[-1].outputs = [new_output("display_data", data=data, metadata=ALT) for data in bundles]


def _source(nb: NotebookNode, text: str) -> None:
    nb.cells[-1].source = text


def _prose(nb: NotebookNode, text: str) -> None:
    nb.cells[2].source += "\n\n" + text


FAULTS: list[tuple[Check, str, Callable[[NotebookNode], object]]] = [
    (check_format, "kernelspec", lambda nb: nb.metadata.kernelspec.update(name="conda-env-x")),
    (check_format, "widget state", lambda nb: nb.metadata.update(widgets={})),
    (check_format, "run times", lambda nb: nb.cells[-1].metadata.update(execution={})),
    (check_format, "empty", lambda nb: _source(nb, " ")),
    (check_executed_in_order, "got .1, None.", lambda nb: nb.cells[-1].update(execution_count=None)),
    (check_executed_in_order, "got .1, 7.", lambda nb: nb.cells[-1].update(execution_count=7)),
    (check_no_errors, "KeyError", lambda nb: _output(nb, output_type="error", ename="KeyError", evalue="a")),
    (check_no_errors, "stderr", lambda nb: _output(nb, output_type="stream", name="stderr", text="50%|##")),
    (check_names_and_magics, "uses interact", lambda nb: _source(nb, "from ipywidgets import interact")),
    (check_names_and_magics, "uses Output", lambda nb: _source(nb, "out = w.Output()")),
    (check_names_and_magics, "magic %tim", lambda nb: _source(nb, "%tim f()")),
    (check_names_and_magics, "shell", lambda nb: _source(nb, "!ls")),
    (check_names_and_magics, "not Python", lambda nb: _source(nb, "for")),
    (check_skips_have_a_reason, "needs a reason", lambda nb: _source(nb, "# NBVAL_SKIP\nf()")),
    (check_skips_have_a_reason, "tag", lambda nb: nb.cells[-1].metadata.update(tags=["nbval-skip"])),
    (check_text_alternatives, "image b.png", lambda nb: _prose(nb, "![](b.png)")),
    (check_text_alternatives, "<img", lambda nb: _prose(nb, "<img src='b.png'>")),
    (
        check_text_alternatives,
        "must describe",
        lambda nb: _output(
            nb, output_type="display_data", data={**PICTURE, "text/plain": "<Figure size 4x4 with 1 Axes>"}
        ),
    ),
    (check_text_alternatives, "alt", lambda nb: _output(nb, output_type="display_data", data=PICTURE)),
    (check_widgets_without_a_kernel, "without a kernel", lambda nb: _shown(nb, BUTTON, VIEW)),
    (check_widgets_without_a_kernel, "must have the button", lambda nb: _shown(nb, VIEW, PICTURE)),
    (check_widgets_without_a_kernel, "must stand alone", lambda nb: _shown(nb, BUTTON, {**VIEW, **PICTURE})),
    (check_headings, "one H1", lambda nb: _prose(nb, "# Another")),
    (check_headings, "jumps from H2 to H4", lambda nb: _prose(nb, "#### Deep")),
    (check_links, "no such file", lambda nb: _prose(nb, "[x](missing.ipynb)")),
    (check_links, "leaves the project", lambda nb: _prose(nb, "[x](../..)")),
    (check_previous_and_next, "02_c", lambda nb: nb.cells[0].update(source="# T\n[p](00_a.ipynb)")),
    (
        check_nothing_private,
        "/home/a",
        lambda nb: _output(nb, output_type="stream", text="in /home/ann/x.py"),
    ),
    (check_nothing_private, "0x7f", lambda nb: _output(nb, output_type="stream", text="<f at 0x7f01a2b3c4>")),
    (check_length, "cells", lambda nb: nb.cells.__delitem__(slice(10, 20))),
    (check_length, "words", lambda nb: _prose(nb, "word " * 2000)),
    (check_length, "lines", lambda nb: _source(nb, "a = 1\n" * 101)),
]


@pytest.mark.parametrize(
    ("check", "message", "spoil"),
    FAULTS,
    ids=[f"{c.__name__[6:]}-{m.replace(' ', '_')}" for c, m, _ in FAULTS],
)
def test_a_planted_fault_is_found(check: Check, message: str, spoil: Callable, folder: Path):
    nb = sound_notebook()
    spoil(nb)
    problems = check(nb, folder / "01_b.ipynb")
    assert any(re.search(message, problem) for problem in problems), problems
