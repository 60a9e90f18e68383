"""Noise and clipping: PSNR, by how much noise there is."""

import statistics
from collections.abc import Iterator

from _common import seeded
from _limits_common import Part, certified, outcome

import spear_core
from spear_core import client
from spear_core.client import data
from spear_core.client.networks import fully_connected


def cases() -> Iterator[dict]:
    for relative in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
        for b in (8, 16):
            for clip in (None, 0.5):
                yield {"b": b, "noise": relative, "clip": clip}


def measure(case: dict, seed: int, limit: float) -> dict:
    b, clip = case["b"], case["clip"]
    batch = data.load("photos", b, generator=seeded(seed))
    model = fully_connected(batch.inputs.shape[1], 400, 4, generator=seeded(10_000 + seed))
    if clip is None:
        sent = client.gradients(model, batch.inputs, batch.labels)
    else:
        sent = client.clipped(model, batch.inputs, batch.labels, norm=clip)
    sent = client.noised(sent, case["noise"], generator=seeded(20_000 + seed))
    return outcome(lambda: spear_core.invert(model, sent, batch_size=b, time_limit=limit), batch.inputs)


def lines(case: dict, runs: list[dict]) -> list[dict]:
    psnr = sorted(p for run in runs for p in run["psnr"])
    cells = {
        "b": case["b"],
        "noise / rms": f"{case['noise']:.0e}",
        "clipped to": case["clip"] or "not",
        "batches": len(runs),
        "median PSNR": f"{statistics.median(psnr):.0f} dB",
        "worst decile": f"{psnr[len(psnr) // 10]:.0f} dB",
        "certified": certified(runs),
        "false": sum(run["false"] for run in runs),
        "median time": f"{statistics.median(run['seconds'] for run in runs):.2f} s",
    }
    return [cells]


NOISE = Part(cases, measure, lines, 20)
