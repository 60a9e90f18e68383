"""Measurements that took too long for a notebook: written by a script in benchmarks/, read here."""

import json
from functools import cache
from typing import Any

from spear_widgets.kit.shipped import shipped

RESULTS = shipped("benchmarks/results")


@cache
def results(script: str, part: str) -> list[dict[str, Any]]:
    """The rows that `python benchmarks/<script>.py` has stored for one of its parts.

    Raises:
        FileNotFoundError: if they are not there; the message names the command that makes them.
    """
    return list(_rows(script, part).values())


@cache
def cases(script: str, part: str) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """The same rows by case, for parts whose keys are [case, seed] in JSON.

    Raises:
        FileNotFoundError: as `results`.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for key, row in _rows(script, part).items():
        groups.setdefault(json.dumps(json.loads(key)[0]), []).append(row)
    return [(json.loads(case), runs) for case, runs in groups.items()]


@cache
def parts(script: str) -> dict[str, list[dict[str, Any]]]:
    """All that `python benchmarks/<script>.py` has stored, by part, for scripts that store one part a row.

    Raises:
        FileNotFoundError: as `results`.
    """
    path = RESULTS / f"{script}.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} must be there: run python benchmarks/{script}.py")
    kept = json.loads(path.read_text(encoding="utf-8"))
    return {part: list(rows.values()) for part, rows in kept.items() if isinstance(rows, dict)}


def _rows(script: str, part: str) -> dict[str, dict[str, Any]]:
    path = RESULTS / f"{script}.json"
    rows = json.loads(path.read_text(encoding="utf-8")).get(part) if path.is_file() else None
    if not rows:
        raise FileNotFoundError(
            f"{path.name} must hold the part {part!r}, got none: run python benchmarks/{script}.py --part {part}"
        )
    return dict(rows)
