"""Rows of real and mixed tables, more of them than columns included."""

import statistics
from collections.abc import Iterator

from _common import seeded
from _limits_common import Part, certified, outcome, share

import spear_core
from spear_core import client
from spear_core.client import census, data
from spear_core.client.networks import fully_connected
from spear_core.study import metrics


def cases() -> Iterator[dict]:
    for name in ("breast_cancer", "wine", "people"):
        for b in (8, 16, 32, 64, 100):
            yield {"table": name, "b": b}


def measure(case: dict, seed: int, limit: float) -> dict:
    batch = data.load(case["table"], case["b"], generator=seeded(seed))
    n = batch.inputs.shape[1]
    model = fully_connected(n, 400, 4, batch.classes, generator=seeded(10_000 + seed))
    sent = client.gradients(model, batch.inputs, batch.labels)
    found: list[spear_core.Inversion] = []

    def attack() -> spear_core.Inversion:
        found.append(spear_core.invert(model, sent, time_limit=limit))
        return found[0]

    row = outcome(attack, batch.inputs) | {"columns": n}
    order = metrics.compare(found[0].inputs, batch.inputs).order
    if case["table"] == "people" and bool((order >= 0).all()):
        row["categories"] = census.categories(found[0].inputs[order]) == census.categories(batch.inputs)
    return row


def lines(case: dict, runs: list[dict]) -> list[dict]:
    right = [run["categories"] for run in runs if "categories" in run]
    cells = {
        "table": case["table"],
        "columns": runs[0]["columns"],
        "b": case["b"],
        "batches": len(runs),
        "rows exact": share(runs, metrics.EXACT_DB),
        "batches with all categories right": f"{sum(right)}/{len(runs)}"
        if case["table"] == "people"
        else "–",
        "certified": certified(runs),
        "false": sum(run["false"] for run in runs),
        "median time": f"{statistics.median(run['seconds'] for run in runs):.2f} s",
    }
    return [cells]


TABLES = Part(cases, measure, lines, 20)
