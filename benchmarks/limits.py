"""Where exactness ends: FedAvg updates, noise and clipping, tables, depth and width.

    python benchmarks/limits.py                       # every part, resumed where it stopped
    python benchmarks/limits.py --part fedavg --fresh # one part, measured again
    python benchmarks/limits.py --part noise --seeds 5

fedavg    photo crops, m = 400, four layers, the update of several local steps: share at ≥ 40 and ≥ 90 dB, certified
noise     gaussian noise relative to the gradient's rms, with and without clipping: PSNR, and how well it is predicted
tables    rows of real and mixed tables, more of them than columns included: share exact, categories included
layers    every layer of fresh and trained networks of several depths and widths: share exact

Results are kept in benchmarks/results/limits.json and printed as Markdown. Times are CPU seconds on one thread.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from sampling import machine, seeded, table
from tqdm.auto import tqdm

import spear_core
from spear_core import census, client, data, metrics
from spear_core.networks import fully_connected
from spear_core.training import train

RESULTS = Path(__file__).parent / "results" / "limits.json"
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def main() -> int:
    """Measure what is missing, print everything; 1 if a certified row was not exact."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument(
        "--seeds", type=int, default=0, help="batches per case; by default the part's own number"
    )
    parser.add_argument("--time-limit", type=float, default=60.0, help="wall seconds for each batch")
    parser.add_argument("--fresh", action="store_true", help="forget the stored results of the part")
    options = parser.parse_args()
    torch.set_num_threads(1)
    false = 0
    for part in PARTS if options.part == "all" else [options.part]:
        cases, measure, line, seeds = PARTS[part]
        rows = {} if options.fresh else stored_results().get(part, {})
        todo = [(case, seed) for case in cases() for seed in range(options.seeds or seeds)]
        for case, seed in tqdm(todo):
            key = json.dumps([case, seed])
            if key not in rows:
                rows[key] = measure(case, seed, options.time_limit) | {"machine": machine()}
                save(part, rows)
        by_case: dict[str, list[dict]] = {}
        for key, row in rows.items():
            by_case.setdefault(json.dumps(json.loads(key)[0]), []).append(row)
        lines = {
            case: line(json.loads(case), runs) | {"machine": runs[0]["machine"]}
            for case, runs in by_case.items()
        }
        heads = [head for head in next(iter(lines.values()), {}) if head != "machine"]
        print(f"\n### {part}\n\n{table(lines, *heads)}")
        false += sum(row["false"] for row in rows.values())
    return int(false > 0)


def stored_results() -> dict:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def save(part: str, rows: dict) -> None:
    """Write one part beside the others; an interruption leaves a whole file."""
    RESULTS.parent.mkdir(exist_ok=True)
    draft = RESULTS.with_suffix(".part")
    parts = (stored_results() | {part: rows}).items()
    lines = [  # one run a line
        f"{json.dumps(name)}: {{\n"
        + ",\n".join(f"{json.dumps(key)}: {json.dumps(row)}" for key, row in runs.items())
        + "\n}"
        for name, runs in parts
    ]
    draft.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    draft.replace(RESULTS)


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


# ---------------------------------------------------------------- fedavg
def fedavg_cases() -> Iterator[dict]:
    for dtype in ("float64", "float32"):
        for b, minibatch, steps in ((8, None, 1), (8, None, 5), (8, 4, 10), (20, None, 5)):
            for lr in (0.01, 0.1):
                yield {"b": b, "minibatch": minibatch, "steps": steps, "lr": lr, "dtype": dtype}


def fedavg(case: dict, seed: int, limit: float) -> dict:
    dtype = DTYPES[case["dtype"]]
    batch = data.load("photos", case["b"], generator=seeded(seed), dtype=dtype)
    model = fully_connected(batch.inputs.shape[1], 400, 4, generator=seeded(10_000 + seed), dtype=dtype)
    training = {"lr": case["lr"], "steps": case["steps"], "batch_size": case["minibatch"]}
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


def fedavg_line(case: dict, runs: list[dict]) -> dict:
    return {
        "b": case["b"],
        "steps": f"{case['steps']} of {case['minibatch'] or case['b']}",
        "lr": case["lr"],
        "dtype": case["dtype"],
        "batches": len(runs),
        "≥ 40 dB": share(runs, metrics.FOUND_DB),
        "≥ 90 dB": share(runs, metrics.EXACT_DB),
        "certified": certified(runs),
        "false": sum(run["false"] for run in runs),
        "median time": f"{statistics.median(run['seconds'] for run in runs):.2f} s",
    }


# ---------------------------------------------------------------- noise
def noise_cases() -> Iterator[dict]:
    for relative in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
        for b in (8, 16):
            for clip in (None, 0.5):
                yield {"b": b, "noise": relative, "clip": clip}


def noise(case: dict, seed: int, limit: float) -> dict:
    b, clip = case["b"], case["clip"]
    batch = data.load("photos", b, generator=seeded(seed))
    model = fully_connected(batch.inputs.shape[1], 400, 4, generator=seeded(10_000 + seed))
    if clip is None:
        sent = client.gradients(model, batch.inputs, batch.labels)
    else:
        sent = client.clipped(model, batch.inputs, batch.labels, norm=clip)
    sent = client.noised(sent, case["noise"], generator=seeded(20_000 + seed))
    return outcome(lambda: spear_core.invert(model, sent, batch_size=b, time_limit=limit), batch.inputs)


def noise_line(case: dict, runs: list[dict]) -> dict:
    psnr = sorted(p for run in runs for p in run["psnr"])
    return {
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


# ---------------------------------------------------------------- tables
def table_cases() -> Iterator[dict]:
    for name in ("breast_cancer", "wine", "people"):
        for b in (8, 16, 32, 64, 100):
            yield {"table": name, "b": b}


def tables(case: dict, seed: int, limit: float) -> dict:
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


def table_line(case: dict, runs: list[dict]) -> dict:
    right = [run["categories"] for run in runs if "categories" in run]
    return {
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


# ---------------------------------------------------------------- layers
def layer_cases() -> Iterator[dict]:
    for width in (100, 400, 1000, 4000):
        for depth in (2, 4, 6, 10) if width < 4000 else (2, 4):
            for is_trained in (False, True):
                yield {"width": width, "depth": depth, "trained": is_trained}


def layers(case: dict, seed: int, limit: float) -> dict:
    """Every linear layer but the last of one network attacked, with b = 8; rows of all layers together."""
    batch = data.load("photos", 8, size=16, generator=seeded(seed))
    model = fully_connected(
        batch.inputs.shape[1], case["width"], case["depth"], generator=seeded(10_000 + seed)
    )
    accuracy = 0.1
    if case["trained"]:
        accuracy = train(model, "photos", size=16, samples=200, generator=seeded(20_000 + seed))
    sent = client.gradients(model, batch.inputs, batch.labels)
    rows = []
    for position in range(0, len(model) - 1, 2):
        with torch.no_grad():
            truth = model[:position](batch.inputs)

        def attack(name: str = str(position)) -> spear_core.Inversion:
            return spear_core.invert(model, sent, layer=name, time_limit=limit)

        try:
            rows.append(outcome(attack, truth))
        except ValueError as refusal:  # a layer whose gradient says nothing, by name
            rows.append(
                {"psnr": [-99.0] * 8, "certified": 0, "false": 0, "seconds": 0.0, "refused": str(refusal)}
            )
    return {
        "psnr": [p for row in rows for p in row["psnr"]],
        "first": rows[0]["psnr"],
        "certified": sum(row["certified"] for row in rows),
        "false": sum(row["false"] for row in rows),
        "seconds": round(sum(row["seconds"] for row in rows), 3),
        "refused": [row["refused"][:80] for row in rows if "refused" in row],
        "accuracy": accuracy,
    }


def layer_line(case: dict, runs: list[dict]) -> dict:
    firsts = [{"psnr": run["first"]} for run in runs]
    return {
        "width": case["width"],
        "depth": case["depth"],
        "network": "trained" if case["trained"] else "fresh",
        "batches": len(runs),
        "network inputs exact": share(firsts, metrics.EXACT_DB),
        "inputs of all layers exact": share(runs, metrics.EXACT_DB),
        "certified": certified(runs),
        "false": sum(run["false"] for run in runs),
        "layers refused": sum(len(run["refused"]) for run in runs),
        "median time for all layers": f"{statistics.median(run['seconds'] for run in runs):.2f} s",
    }


Part = tuple[
    Callable[[], Iterator[dict]], Callable[[dict, int, float], dict], Callable[[dict, list[dict]], dict], int
]
PARTS: dict[str, Part] = {
    "fedavg": (fedavg_cases, fedavg, fedavg_line, 20),
    "noise": (noise_cases, noise, noise_line, 20),
    "tables": (table_cases, tables, table_line, 20),
    "layers": (layer_cases, layers, layer_line, 10),
}

if __name__ == "__main__":
    raise SystemExit(main())
