"""Updates of several local steps: share at ≥ 40 and ≥ 90 dB, certified."""

import statistics
from collections.abc import Iterator

import torch
from _common import seeded
from _limits_common import Part, certified, outcome, share

import spear_core
from spear_core import client
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.study import metrics

DTYPES = {"float32": torch.float32, "float64": torch.float64}


def cases() -> Iterator[dict]:
    """Full batches, minibatches in order, minibatches of a client that shuffles every epoch."""
    kinds = (
        (8, None, 1, False),
        (8, None, 5, False),
        (20, None, 5, False),
        (8, 4, 10, False),
        (8, 4, 10, True),
    )
    for dtype in ("float64", "float32"):
        for b, minibatch, steps, shuffled in kinds:
            for lr in (0.01, 0.1):
                case = {"b": b, "minibatch": minibatch, "steps": steps, "lr": lr, "dtype": dtype}
                yield case | ({"shuffled": True} if shuffled else {})


def measure(case: dict, seed: int, limit: float) -> dict:
    """One update, inverted."""
    dtype = DTYPES[case["dtype"]]
    batch = data.load("photos", case["b"], generator=seeded(seed), dtype=dtype)
    model = fully_connected(batch.inputs.shape[1], 400, 4, generator=seeded(10_000 + seed), dtype=dtype)
    training = {"lr": case["lr"], "steps": case["steps"], "batch_size": case["minibatch"]}
    if case.get("shuffled"):
        training["generator"] = seeded(30_000 + seed)
    sent = client.update(model, batch.inputs, batch.labels, **training)
    return outcome(
        lambda: spear_core.invert(
            model,
            sent,
            local_steps=case["steps"],
            lr=case["lr"],
            local_batch_size=case["minibatch"],
            time_limit=limit,
        ),
        batch.inputs,
    )


def lines(case: dict, runs: list[dict]) -> list[dict]:
    """Cells of one case."""
    cells = {
        "b": case["b"],
        "steps": f"{case['steps']} of {case['minibatch'] or case['b']}"
        + ", shuffled" * case.get("shuffled", False),
        "lr": case["lr"],
        "dtype": case["dtype"],
        "batches": len(runs),
        "≥ 40 dB": share(runs, metrics.FOUND_DB),
        "≥ 90 dB": share(runs, metrics.EXACT_DB),
        "certified": certified(runs),
        "false": sum(run["false"] for run in runs),
        "median time": f"{statistics.median(run['seconds'] for run in runs):.2f} s",
    }
    return [cells]


FEDAVG = Part(cases, measure, lines, 20)
