"""Theory against measurement: draws, failures, and what the two ways to a batch cost.

    python benchmarks/theory.py                 # all parts, resumed where they stopped
    python benchmarks/theory.py --part draws --fresh

draws    draws until all b directions are met, for gaussian inputs, photographs and digits, m = 400: mean over
         repetitions with its standard error, beside the expectation from the zeros of the same batch
failure  fresh clients with gaussian inputs, one run each: draws taken, and the least share of zeros of a column
roads    CPU seconds of `spear_core.invert` on one thread: sampling for small b, consistency for any

Results are kept in benchmarks/results/theory.json, from which notebook 05 draws, and printed as Markdown.
"""

import argparse
import statistics
import time

import torch
from _common import RESULTS, machine, seeded, store, stored, table
from torch import Tensor
from tqdm.auto import tqdm

import spear_core
from spear_core import client
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.study import collecting, theory

PATH = RESULTS / "theory.json"
KINDS = ("gaussian", "photos", "digits")
INPUTS = 768  # of a gaussian sample: as many as a photograph of 16 × 16 has
DRAWS_WIDTH = 400
DRAWS_BATCHES = (2, 4, 6, 8, 10, 12, 14, 16)
FAILURE_BATCHES = (4, 6, 8)
FAILURE_WIDTHS = (25, 50, 100, 200, 400)
MOST_DRAWS = 64  # times the expected number, after which a run of part failure counts as failed
ROADS = {"sampling": (4, 8, 12, 14, 16), "consistency": (4, 8, 16, 32, 64, 128)}


def main() -> None:
    """Measure what is missing, print everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--batches", type=int, default=10, help="batches for each kind and b of part draws")
    parser.add_argument("--runs", type=int, default=40, help="repetitions for each batch of part draws")
    parser.add_argument("--clients", type=int, default=300, help="for each b and m of part failure")
    parser.add_argument("--fresh", action="store_true", help="forget the stored results of the part")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for part in PARTS if options.part == "all" else [options.part]:
        rows = {} if options.fresh else stored(PATH).get(part, {})
        cells = PARTS[part][0](options)
        for key, make in tqdm([cell for cell in cells if cell[0] not in rows], desc=part):
            rows[key] = make() | {"machine": machine()}
            store(PATH, {part: rows})
        print(f"\n### {part}\n\n{PARTS[part][1](rows)}\n\n{machine()}")


def output_grads(inputs: Tensor, labels: Tensor, width: int, seed: int) -> Tensor:
    """(∂L/∂Z)ᵀ of the first of three layers of a fresh network, shape (b, m), float64."""
    model = fully_connected(inputs.shape[1], width, 3, generator=seeded(10_000 + seed), dtype=torch.float64)
    Z = model[0](inputs.double())
    loss = torch.nn.functional.cross_entropy(model[1:](Z), labels)
    (gradient,) = torch.autograd.grad(loss, Z)
    return gradient


def client_grads(kind: str, b: int, width: int, seed: int) -> Tensor:
    """The same for a batch of a kind."""
    if kind == "gaussian":
        inputs = torch.randn(b, INPUTS, generator=seeded(seed))
        return output_grads(inputs, torch.randint(10, (b,), generator=seeded(seed)), width, seed)
    batch = data.load(kind, b, size=16, generator=seeded(seed))
    return output_grads(batch.inputs, batch.labels, width, seed)


# ---------------------------------------------------------------- draws
def draws_cells(options: argparse.Namespace) -> list:
    return [
        (f"{kind} {b} {seed}", lambda kind=kind, b=b, seed=seed: draws(kind, b, seed, options.runs))
        for kind in KINDS
        for b in DRAWS_BATCHES
        for seed in range(options.batches)
    ]


def draws(kind: str, b: int, seed: int, runs: int) -> dict:
    D = client_grads(kind, b, DRAWS_WIDTH, seed)
    hits = collecting.hit_probabilities(D, sets=1000, generator=seeded(seed))
    expected = theory.expected_draws_each(hits)
    runs = max(8, runs // 4) if b > 12 else runs
    taken = collecting.first_hits(D, runs, generator=seeded(seed), limit=int(4 * runs * expected) + 10**5)
    total = taken.max(dim=1).values.double()
    return {
        "kind": kind,
        "b": b,
        "m": DRAWS_WIDTH,
        "runs": len(total),
        "mean": round(float(total.mean()), 2),
        "error": round(float(total.std()) / len(total) ** 0.5, 2),
        "predicted": round(expected, 2),
    }


def draws_table(rows: dict) -> str:
    cells: dict[tuple[str, int], list[dict]] = {}
    for row in rows.values():
        cells.setdefault((row["kind"], row["b"]), []).append(row)
    lines = []
    for (kind, b), runs in sorted(cells.items()):
        low, high = collecting.predicted_range(b, DRAWS_WIDTH)
        inside = sum(low <= run["mean"] <= high for run in runs)
        off = [abs(run["mean"] - run["predicted"]) / run["error"] for run in runs]
        mean = statistics.mean(run["mean"] for run in runs)
        lines.append(
            [
                kind,
                b,
                f"{theory.expected_draws(b):,.0f}",
                f"{low:,.0f} … {high:,.0f}",
                f"{mean:,.0f}",
                f"{inside}/{len(runs)}",
                f"{statistics.mean(run['predicted'] for run in runs):,.0f}",
                f"{max(off):.1f}",
            ]
        )
    heads = (
        "kind, b, H_b 2^(b−1), predicted range, measured, inside, from its zeros, worst difference / error"
    )
    return table(heads.split(", "), lines)


# ---------------------------------------------------------------- failure
def failure_cells(options: argparse.Namespace) -> list:
    return [
        (f"{b} {m}", lambda b=b, m=m: failure(b, m, options.clients))
        for b in FAILURE_BATCHES
        for m in FAILURE_WIDTHS
    ]


def failure(b: int, m: int, clients: int) -> dict:
    """Draws of each client, 0 where a direction was never met, and the fewest zeros of a column."""
    taken, zeros = [], []
    for seed in range(clients):
        D = client_grads("gaussian", b, m, seed)
        limit = int(MOST_DRAWS * theory.expected_draws(b))
        run = collecting.first_hits(D, 1, generator=seeded(seed), limit=limit)
        total = int(run.max()) if len(run) else 0
        taken.append(total if total <= limit else 0)
        zeros.append(int((D == 0).sum(dim=1).min()))
    return {"b": b, "m": m, "draws": taken, "zeros": zeros}


def failure_table(rows: dict) -> str:
    lines = []
    for row in rows.values():
        b, m, line = row["b"], row["m"], []
        for times in (1, 2, 4, 16):
            limit = times * theory.expected_draws(b)
            failed = sum(not 0 < draws <= limit for draws in row["draws"])
            line.append(f"{failed / len(row['draws']):.2f} ({collecting.coin_failure(b, limit, m, 0.0):.2f})")
        lines.append([b, m, *line])
    return table(["b", "m", *(f"{t} × H_b 2^(b−1): measured (theory)" for t in (1, 2, 4, 16))], lines)


# ---------------------------------------------------------------- roads
def roads_cells(options: argparse.Namespace) -> list:
    return [
        (f"{method} {b} {seed}", lambda method=method, b=b, seed=seed: road(method, b, seed))
        for method, batches in ROADS.items()
        for b in batches
        for seed in range(3)
    ]


def road(method: str, b: int, seed: int) -> dict:
    m = max(DRAWS_WIDTH, 10 * b)
    batch = data.load("photos", b, size=16, generator=seeded(seed))
    model = fully_connected(batch.inputs.shape[1], m, 4, generator=seeded(10_000 + seed))
    gradients = client.gradients(model, batch.inputs, batch.labels)
    spear_core.invert(model, gradients, method="consistency", generator=seeded(seed))  # warm caches
    began = time.thread_time()
    found = spear_core.invert(model, gradients, method=method, generator=seeded(seed))
    seconds = time.thread_time() - began
    return {"method": method, "b": b, "m": m, "seconds": round(seconds, 4), "certified": found.certified}


def roads_table(rows: dict) -> str:
    heads = ["method", "b", "m", "seconds", "certified"]
    return table(heads, [[row[head] for head in heads] for row in rows.values()])


PARTS = {
    "draws": (draws_cells, draws_table),
    "failure": (failure_cells, failure_table),
    "roads": (roads_cells, roads_table),
}

if __name__ == "__main__":
    main()
