"""How far the attack goes: photographs of ImageNet's size, and success over batch size and width.

    python benchmarks/scale.py                 # all parts, resumed where they stopped
    python benchmarks/scale.py --part imagenet --fresh

imagenet     crops of 3×224×224 from the bundled photographs, four layers of width m = max(400, 4 b), one gradient:
             share exact, worst PSNR, and CPU seconds of the whole `spear_core.invert` call
grid         crops of 3×32×32, six layers: success and time of sampling over b and m, with a limit of CPU time; what
             consistency does there is benchmarks/success_map.py
approximate  DLG with L-BFGS, and cosine distance with total variation and Adam, as published, beside exact inversion
             on the same gradients of b crops of 3×32×32: PSNR of every sample, CPU seconds

All CPU seconds on one thread. Results are kept in benchmarks/results/scale.json, from which notebook 07 draws, and
printed as Markdown.
"""

import argparse
import math
import statistics
import time
from collections.abc import Iterator

import torch
from _common import RESULTS, machine, seeded, store, stored, table
from torch import Tensor, nn
from tqdm.auto import tqdm
from world.promises import stop_after

import spear_core
from spear_core import client
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.study import approximate, metrics

PATH = RESULTS / "scale.json"
IMAGENET = {"consistency": (4, 8, 16, 24, 64, 128, 256), "sampling": (4, 8, 12, 16)}
GRID_WIDTHS = (50, 100, 200, 400)
GRID_BATCHES = (4, 8, 12, 16, 20)
GRID_LIMIT = 6.0  # CPU seconds a batch
APPROXIMATE_BATCHES = (1, 2, 4, 8)
DLG_STEPS, ADAM_STEPS = 100, 2000


def main() -> None:
    """Measure what is missing, print everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--fresh", action="store_true", help="forget the stored results of the part")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for part in PARTS if options.part == "all" else [options.part]:
        rows = {} if options.fresh else stored(PATH).get(part, {})
        cells, run, heads = PARTS[part]
        keys = [(*cell, seed) for cell in cells for seed in range(options.seeds)]
        for key in tqdm([key for key in keys if f"{key}" not in rows], desc=part):
            rows[f"{key}"] = run(*key) | {"machine": machine()}
            store(PATH, {part: rows})
        print(f"\n### {part}\n\n{summary(rows, heads)}\n\n{machine()}")


def attack(method: str, b: int, m: int, depth: int, size: int, seed: int, limit: float) -> dict:
    """One batch of photo crops and back."""
    batch = data.load("photos", b, size=size, generator=seeded(seed))
    model = fully_connected(batch.inputs.shape[1], m, depth, generator=seeded(10_000 + seed))
    gradients = client.gradients(model, batch.inputs, batch.labels)
    began = time.thread_time()
    found = spear_core.invert(
        model, gradients, method=method, batch_size=b, generator=seeded(seed), progress=stop_after(limit)
    )
    seconds = time.thread_time() - began
    score = metrics.compare(found.inputs, batch.inputs)
    proven = metrics.compare(found.inputs[found.certified_rows], batch.inputs)
    certified = int(found.certified_rows.sum())
    return {
        "method": method,
        "b": b,
        "m": m,
        "exact": int(score.exact.sum()),
        "certified": certified,
        "false": certified - int(proven.exact.sum()),
        "psnr": round(max(float(score.psnr.min()), -99.0), 1),
        "seconds": round(seconds, 4),
    }


def imagenet(method: str, b: int, seed: int) -> dict:
    return attack(method, b, max(400, 4 * b), 4, 224, seed, math.inf)


def grid(method: str, b: int, m: int, seed: int) -> dict:
    return attack(method, b, m, 6, 32, seed, GRID_LIMIT)


# ---------------------------------------------------------------- guesses
def guesses(
    method: str, model: nn.Module, gradients: dict[str, Tensor], batch: data.Batch, seed: int
) -> Iterator[approximate.Guess]:
    if method == "DLG":
        shape = tuple(batch.inputs.shape)
        return approximate.deep_leakage(
            model, gradients, shape, batch.classes, steps=DLG_STEPS, generator=seeded(seed)
        )
    bounds = -batch.shift / batch.scale, (1 - batch.shift) / batch.scale
    return approximate.inverting_gradients(
        model, gradients, batch.labels, batch.shape, bounds=bounds, steps=ADAM_STEPS, generator=seeded(seed)
    )


def guessed(method: str, b: int, seed: int) -> dict:
    """One approximate attack; both are run to their end and their last guess counts."""
    batch = data.load("photos", b, size=32, generator=seeded(seed))
    model = fully_connected(batch.inputs.shape[1], 200, 4, generator=seeded(10_000 + seed))
    gradients = client.gradients(model, batch.inputs, batch.labels)
    began = time.thread_time()
    if method == "exact":
        inputs = spear_core.invert(model, gradients, generator=seeded(seed)).inputs
    else:
        *_, last = guesses(method, model, gradients, batch, seed)
        inputs = last.inputs
    seconds = time.thread_time() - began
    score = metrics.compare(inputs, batch.inputs)
    psnr = [round(min(max(value, -99.0), 199.0), 1) for value in score.psnr.tolist()]
    return {
        "method": method,
        "b": b,
        "m": 200,
        "exact": int(score.exact.sum()),
        "psnr": psnr,
        "seconds": round(seconds, 4),
    }


# ---------------------------------------------------------------- tables
def summary(rows: dict, heads: str) -> str:
    """One line for each method, b and m."""
    cells: dict[tuple[str, int, int], list[dict]] = {}
    for row in rows.values():
        cells.setdefault((row["method"], row["b"], row["m"]), []).append(row)
    lines = []
    for (method, b, m), runs in sorted(cells.items()):
        exact, of = sum(run["exact"] for run in runs), b * len(runs)
        low, high = metrics.share_interval(exact, of)
        values = [run["psnr"] for run in runs]
        psnr = (
            min(values) if heads == "worst" else statistics.median(value for row in values for value in row)
        )
        seconds = statistics.median(run["seconds"] for run in runs)
        share = f"{exact}/{of} ({100 * low:.0f}–{100 * high:.0f} %)"
        whole = sum(run["exact"] == b for run in runs)
        false = sum(run.get("false", 0) for run in runs)
        shown = f"{psnr:.0f} dB" if math.isfinite(psnr) else "samples missing"
        lines.append([method, b, m, f"{whole}/{len(runs)}", share, shown, f"{seconds:.3f} s", false])
    return table(
        [
            "method", "b", "m", "whole batches", "samples exact", f"{heads} PSNR", "median time",
            "certified, not exact",
        ],
        lines,
    )  # fmt: skip


PARTS = {
    "approximate": (
        [(method, b) for method in ("exact", "DLG", "cosine + TV") for b in APPROXIMATE_BATCHES],
        guessed,
        "median",
    ),
    "grid": (
        [("sampling", b, m) for m in reversed(GRID_WIDTHS) for b in GRID_BATCHES],
        grid,
        "worst",
    ),
    "imagenet": ([(method, b) for method, batches in IMAGENET.items() for b in batches], imagenet, "worst"),
}

if __name__ == "__main__":
    main()
