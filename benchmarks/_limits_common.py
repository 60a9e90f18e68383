"""What the parts of benchmarks/limits.py share: the record of a part, and what one attack gave."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

import spear_core
from spear_core.study import metrics


@dataclass(frozen=True)
class Part:
    """One table.

    Attributes:
        cases: what is measured.
        measure: (case, seed, wall seconds for each attack) → what one batch gave.
        lines: (case, runs) → lines of the table, cells by head.
        seeds: batches per case.
    """

    cases: Callable[[], Iterator[dict]]
    measure: Callable[[dict, int, float], dict]
    lines: Callable[[dict, list[dict]], list[dict]]
    seeds: int


def outcome(attack: Callable[[], spear_core.Inversion], truth: torch.Tensor) -> dict:
    """What one attack gave: PSNR of every true row, certified rows, and how many of those were not exact."""
    began = time.thread_time()
    found = attack()
    seconds = time.thread_time() - began
    score = metrics.compare(found.inputs, truth)
    exact = torch.zeros(len(found.inputs), dtype=torch.bool)
    exact[score.order[score.exact]] = True
    return {
        "psnr": [round(max(p, -99.0), 1) for p in score.psnr.tolist()],  # JSON knows no infinity
        "certified": int(found.certified_rows.sum()),
        "false": int((found.certified_rows.cpu() & ~exact).sum()),
        "seconds": round(seconds, 3),
        "error": max(score.largest_error, 0.0) if score.largest_error < float("inf") else -1.0,
    }


def share(runs: list[dict], decibel: float) -> str:
    """Samples at or above a PSNR, as a share of all samples of all runs."""
    psnr = [p for run in runs for p in run["psnr"]]
    return f"{sum(p >= decibel for p in psnr) / len(psnr):.1%}"


def certified(runs: list[dict]) -> str:
    return f"{sum(run['certified'] for run in runs)}/{sum(len(run['psnr']) for run in runs)}"
