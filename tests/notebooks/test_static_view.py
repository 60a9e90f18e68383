"""Without a kernel (GitHub, nbviewer, print) every widget is a picture with its description."""

import functools
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Pictures(HTMLParser):
    """Collects the text alternatives of all pictures, and the visible text."""

    def __init__(self) -> None:
        super().__init__()
        self.alternatives: list[str | None] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.alternatives.append(dict(attrs).get("alt"))

    def handle_data(self, data):
        self.text.append(data)


@functools.cache
def exporter(template: str) -> HTMLExporter:
    """One for each template: it compiles its templates at its first page."""
    return HTMLExporter(template_name=template)


def page(nb: NotebookNode, template: str = "lab") -> str:
    """The HTML of a notebook, without stored widget state."""
    nb.metadata.pop("widgets", None)
    html, _ = exporter(template).from_notebook_node(nb)
    return html


def static_view(output: NotebookNode, template: str) -> Pictures:
    """One output, converted as it would be inside its notebook, as its pictures and its text."""
    nb = new_notebook(cells=[new_code_cell("", outputs=[output])])
    view = Pictures()
    view.feed(re.sub(r"<(style|script)\b.*?</\1>", "", page(nb, template), flags=re.DOTALL))
    return view


def stand_ins(nb: NotebookNode) -> list[tuple[int, NotebookNode]]:
    """What stands for each widget: the output after its view."""
    return [
        (cell.execution_count, after)
        for cell in nb.cells
        if cell.cell_type == "code"
        for view, after in itertools.pairwise([*cell.outputs, new_output("display_data")])
        if WIDGET_VIEW in view.get("data", {})
    ]


def problems_of(output: NotebookNode) -> list[str]:
    """A widget shows a described picture, or (a question, an answer box) its words as HTML."""
    lab, classic = static_view(output, "lab"), static_view(output, "classic")
    if "image/png" not in output.data and "text/html" in output.data:
        words = re.sub(r"<[^>]*>", " ", output.data["text/html"]).split()
        shown = set(words) <= set(" ".join(lab.text).split())
        return [] if len(words) >= 4 and shown else [f"shows only {' '.join(words)!r}"]
    if not lab.alternatives:
        return ["shows no picture"]
    if not all(alt and len(alt.split()) >= 4 and "No description" not in alt for alt in classic.alternatives):
        return [f"text alternatives must be a sentence, got {classic.alternatives}"]
    return []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_widgets_are_pictures_without_a_kernel(path: Path):
    nb = nbformat.read(path, as_version=4)
    problems = [f"In [{n}]: {fault}" for n, output in stand_ins(nb) for fault in problems_of(output)]
    assert not problems, "\n".join([path.name, *problems])


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_the_whole_page_converts(path: Path):
    html = page(nbformat.read(path, as_version=4))
    assert "Traceback (most recent call last)" not in html
    assert html.count("<img") >= len(
        [o for _, o in stand_ins(nbformat.read(path, as_version=4)) if "image/png" in o.data]
    )


def display(data: dict, metadata: dict | None = None) -> NotebookNode:
    return new_output("display_data", data=data, metadata=metadata or {})


SENTENCE = "The gradient peeled term by term."


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        (display({"image/png": PIXEL, "text/plain": SENTENCE}, {"image/png": {"alt": SENTENCE}}), None),
        (display({"text/html": f"<p>{SENTENCE}</p>", "text/plain": SENTENCE}), None),
        (display({"text/plain": "VBox(children=(IntSlider(value=0),))"}), "no picture"),
        (display({"image/png": PIXEL, "text/plain": SENTENCE}), "must be a sentence"),
        (display({"image/png": PIXEL}, {"image/png": {"alt": "plot"}}), "must be a sentence"),
        (display({"text/html": "<b>4</b>"}), "shows only"),
    ],
)
def test_what_counts_as_a_static_view(output: NotebookNode, fault: str | None):
    problems = problems_of(output)
    assert (not problems) if fault is None else (fault in problems[0])
