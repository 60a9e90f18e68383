"""What the browser's runs are compared by: differences are found, and only those that nbval finds."""

import copy
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.notebooks.same_outputs import differences

VIEW = "application/vnd.jupyter.widget-view+json"
WORDS = {"text/plain": "a picture", "text/html": "<img src='data:image/png;base64,AAAA'> eight"}


@pytest.fixture
def stored() -> NotebookNode:
    said = [new_output("stream", text="rank 8\n"), new_output("stream", name="stderr", text="slow\n")]
    shown = [new_output("display_data", data={**WORDS, "image/png": "AAAA", VIEW: {"model_id": "1"}})]
    varies = [new_output("stream", text="42 ms\n")]
    cells = [("f()", said), ("g()", shown), ("# NBVAL_IGNORE_OUTPUT\nh()", varies)]
    return new_notebook(
        cells=[
            new_code_cell(source, execution_count=n, outputs=out) for n, (source, out) in enumerate(cells, 1)
        ]
    )


def said(nb: NotebookNode, cell: int, **changes: object) -> None:
    nb.cells[cell].outputs[0].update(changes)


def shown(nb: NotebookNode, **changes: object) -> None:
    nb.cells[1].outputs[0].data.update(changes)


@pytest.mark.parametrize(
    ("change", "cells"),
    [
        (lambda nb: None, []),
        (lambda nb: said(nb, 0, text="rank 7\n"), [1]),
        (lambda nb: nb.cells[0].outputs.pop(), [1]),
        (lambda nb: nb.cells[0].outputs.append(new_output("stream", text="more\n")), [1]),
        (lambda nb: shown(nb, **{"text/plain": "another"}), [2]),
        (lambda nb: shown(nb, **{"text/html": WORDS["text/html"] + "!"}), [2]),
        (lambda nb: nb.cells[1].outputs[0].data.pop("text/html"), [2]),
        (lambda nb: nb.cells[1].outputs.append(new_output("display_data", data=WORDS)), [2]),
        (lambda nb: (said(nb, 0, text="rank 7\n"), shown(nb, **{"text/plain": "another"})), [1, 2]),
        # pixels depend on fonts, ids are drawn anew, and a cell may say that its outputs vary
        (lambda nb: shown(nb, **{"text/html": WORDS["text/html"].replace("AAAA", "BBBB")}), []),
        (lambda nb: shown(nb, **{"image/png": "BBBB", VIEW: {"model_id": "2"}}), []),
        (lambda nb: said(nb, 2, text="rank 7\n"), []),
    ],
)
def test_what_differs_is_found(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    stored: NotebookNode,
    change: Callable[[NotebookNode], object],
    cells: list[int],
):
    nbformat.write(stored, tmp_path / "stored.ipynb")
    ran = copy.deepcopy(stored)
    change(ran)
    found = differences(request.session, tmp_path / "stored.ipynb", ran)
    assert [text.split("\n")[0] for text in found] == [f"In [{n}]:" for n in cells]
