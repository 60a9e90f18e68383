"""A run of a notebook beside what it stores, by nbval's own comparison, for runs that nbval did not start."""

from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbval.plugin import IPyNbFile, coalesce_streams, get_sanitize_patterns

SANITIZE = Path(__file__).with_name("sanitize.cfg")


def differences(session: pytest.Session, stored: Path, ran: NotebookNode) -> list[str]:
    """What nbval says of each code cell of `ran` whose outputs are not those of the notebook in `stored`."""
    reference = IPyNbFile.from_parent(session, path=stored)
    reference.sanitize_patterns.update(get_sanitize_patterns(SANITIZE.read_text(encoding="utf-8")))
    outputs = [cell.outputs for cell in ran.cells if cell.cell_type == "code"]
    found = []
    for cell, new in zip(reference.collect(), outputs, strict=True):
        checked = cell.options["check"] and not cell.options["skip"]
        if checked and not cell.compare_outputs(coalesce_streams(new), coalesce_streams(cell.cell.outputs)):
            found.append("\n".join([f"In [{cell.cell.execution_count}]:", *cell.comparison_traceback]))
    return found
