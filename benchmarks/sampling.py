"""Inversion by sampling: how fast candidates are tested, and how exactly whole batches come back.

    python benchmarks/sampling.py                       # every part, resumed where it stopped
    python benchmarks/sampling.py --part rate --fresh   # one part, measured again
    python benchmarks/sampling.py --part exact --seeds 3

rate      candidates per second, of one batched inverse per b of them, one solve for each, one SVD for each
exact     photo crops, six layers: share exact and certified, worst PSNR, median time, draws against theory
large     b = 20 and 24 at m = 400, with a progress bar
imagenet  3×224×224 inputs, b = 16: time and peak memory, beside the time of the two thin products with G
hard      near-duplicates, one label, raw pixels: how many certified rows are not exact (exit status 1 if any)

Results are kept in benchmarks/results/sampling.json and printed as Markdown. Rates and times are in CPU seconds,
on one thread unless --threads says more, since wall time on a shared machine measures the neighbours; where
wall time is given, it is called so.
"""

import argparse
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

import spear_core
from spear_core import client
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.spear.low_rank import split
from spear_core.spear.sampling import chunk_sizes, draw_directions, draw_row_sets, live_rows
from spear_core.spear.sparsity import COARSE_ZERO, FIRST_ROWS, FIRST_ZEROS, passes_first_stage
from spear_core.study import metrics, theory

RESULTS = Path(__file__).parent / "results" / "sampling.json"
DTYPES = {"float32": torch.float32, "float64": torch.float64}
RATE_BATCHES = (12, 16, 20, 24)
EXACT_BATCHES = (1, 2, 4, 6, 8, 10, 12, 16)
LARGE_LIMIT = 600  # wall seconds
LARGE_SEEDS = 5  # batches of each size of part large
WIDTHS = (100, 200, 400)
KINDS = ("shifted by 1 pixel", "shifted by 2 pixels", "one label", "raw pixels")


def main() -> int:
    """Measure what is missing, print everything; 1 if a certificate was false."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument("--seeds", type=int, default=10, help="batches per case of part exact")
    parser.add_argument("--runs", type=int, default=300, help="runs of part hard")
    parser.add_argument(
        "--time-limit", type=float, default=60.0, help="wall seconds for each batch of part exact"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="forget the stored results of the part")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.child:
        print(json.dumps(invert_file(Path(options.child))))
        return 0
    false = 0
    for part in PARTS if options.part == "all" else [options.part]:
        rows = {} if options.fresh else stored_results().get(part, {})
        PARTS[part](rows, options, partial(save, part, rows))
        print(f"\n### {part}\n\n{TABLES[part](rows)}")
        false += sum(row["false rows"] for row in rows.values() if part == "hard")
    return int(false > 0)


def stored_results() -> dict:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def save(part: str, rows: dict) -> None:
    """Write one part beside what other parts have written; an interruption leaves a whole file."""
    RESULTS.parent.mkdir(exist_ok=True)
    stored = stored_results() | {part: rows}
    draft = RESULTS.with_suffix(".part")
    draft.write_text(json.dumps(stored, indent=1) + "\n")
    draft.replace(RESULTS)


def machine() -> str:
    """Cores, CPU and torch, as every table states them."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    cpu = names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores, {cpu}, torch {torch.__version__}, {torch.get_num_threads()} threads"


def table(rows: dict, *heads: str) -> str:
    """Markdown, with the machines that the rows were measured on."""
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(str(row.get(head, '')) for head in heads)} |" for row in rows.values()]
    return "\n".join([*lines, "", *sorted({row["machine"] for row in rows.values()})])


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photo_attack(b: int, m: int, seed: int, dtype: torch.dtype, **options) -> dict:
    """One batch of photo crops through six layers, and back."""
    batch = data.load("photos", b, generator=seeded(seed), dtype=dtype)
    model = fully_connected(batch.inputs.shape[1], m, 6, generator=seeded(10_000 + seed), dtype=dtype)
    gradients = client.gradients(model, batch.inputs, batch.labels)
    wall, cpu = time.perf_counter(), time.process_time()
    options |= {"batch_size": 1} if b == 1 else {}  # which nothing else can say of one row
    found = spear_core.invert(model, gradients, method="sampling", generator=seeded(seed), **options)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    psnr = metrics.compare(found.inputs, batch.inputs).psnr
    return {
        "wall": wall,
        "cpu": cpu,
        "recovered": len(found.inputs),
        "draws": found.samples_drawn,
        "certified": found.certified,
        "psnr": float(psnr.min()),
        "b": found.batch_size,
    }


# ---------------------------------------------------------------- rate
def rate(rows: dict, options: argparse.Namespace, keep: Callable[[], None]) -> None:
    """Tested candidates a second, for each way of computing null vectors; the best of 3 runs."""
    for b in RATE_BATCHES:
        if str(b) in rows:
            continue
        batch = data.load("photos", b, generator=seeded(0))
        model = fully_connected(batch.inputs.shape[1], 400, 6, generator=seeded(1))
        low_rank = split(
            client.gradients(model, batch.inputs, batch.labels)["0.weight"], b, generator=seeded(0)
        )
        L = low_rank.factor[live_rows(low_rank.factor)]
        L = (L / L.norm(dim=1, keepdim=True)).to(torch.float32)
        *_, chunk = (size for size, _ in zip(chunk_sizes(b), range(40)))
        ways = {
            "one inverse for b": (inverse, chunk),
            "one solve each": (solve, 4096),
            "one SVD each": (svd, 512),
        }
        row = {"b": b, "machine": machine()}
        for name, (way, count) in ways.items():
            row[name] = f"{max(per_second(way, L, count) for _ in range(3)) / 1e6:.3f} M/s"
        rows[str(b)] = row
        keep()


def per_second(way: Callable[[Tensor, int, torch.Generator], int], L: Tensor, count: int) -> float:
    """Candidates per CPU second over a quarter of one, after one run that warms up."""
    generator = seeded(0)
    way(L, count, generator)
    began, tested = time.process_time(), 0
    while time.process_time() - began < 0.25:
        tested += way(L, count, generator)
    return tested / (time.process_time() - began)


def inverse(L: Tensor, count: int, generator: torch.Generator) -> int:
    """What the search does."""
    draw = draw_directions(L, count, generator=generator)
    passes_first_stage(draw, L, generator=generator)
    return len(draw.directions)


def solve(L: Tensor, count: int, generator: torch.Generator) -> int:
    """A random last row makes the system square: S q = e_b."""
    b = L.shape[1]
    S = torch.cat([rows_of(L, count, generator), torch.randn(count, 1, b, generator=generator)], dim=1)
    target = torch.zeros(count, b, 1)
    target[:, -1] = 1
    return count_zeros(L, torch.linalg.solve_ex(S, target)[0][:, :, 0], generator)


def svd(L: Tensor, count: int, generator: torch.Generator) -> int:
    """The last right singular vector of b − 1 rows."""
    return count_zeros(L, torch.linalg.svd(rows_of(L, count, generator))[2][:, -1], generator)


def rows_of(L: Tensor, count: int, generator: torch.Generator) -> Tensor:
    return L[draw_row_sets(len(L), L.shape[1] - 1, count, generator=generator)[:count]]


def count_zeros(L: Tensor, directions: Tensor, generator: torch.Generator) -> int:
    """The same first stage as in the search, for candidates that share no rows."""
    rows = torch.randperm(len(L), generator=generator)[:FIRST_ROWS]
    entries = (L[rows] @ directions.T).abs_()
    zeros = (entries < entries.mean(dim=0) * COARSE_ZERO).sum(dim=0, dtype=torch.uint8)
    return len(zeros >= FIRST_ZEROS)


def rate_table(rows: dict) -> str:
    return table(rows, "b", "one inverse for b", "one solve each", "one SVD each")


# ---------------------------------------------------------------- exact
def exact(rows: dict, options: argparse.Namespace, keep: Callable[[], None]) -> None:
    """Every batch size, width and precision, over seeds."""
    cases = [
        (f"{name} {b} {m} {seed}", name, b, m, seed)
        for b in EXACT_BATCHES
        for m in WIDTHS
        for name in DTYPES
        for seed in range(options.seeds)
    ]
    for key, name, b, m, seed in tqdm([case for case in cases if case[0] not in rows]):
        run = photo_attack(b, m, seed, DTYPES[name], time_limit=options.time_limit)
        psnr = min(max(run["psnr"], -1e4), 1e4)  # JSON knows no infinity
        rows[key] = {**run, "psnr": psnr, "machine": machine()}
        keep()


def exact_table(rows: dict) -> str:
    cases: dict[tuple[int, int, str], list[dict]] = {}
    for key, row in rows.items():
        name, b, m, _ = key.split()
        cases.setdefault((int(b), int(m), name), []).append(row)
    lines = {case: exact_line(*case, runs) for case, runs in sorted(cases.items())}
    heads = [head for head in next(iter(lines.values()), {}) if head != "machine"]
    return table(lines, *heads)


def exact_line(b: int, m: int, dtype: str, runs: list[dict]) -> dict:
    exact = [run["psnr"] >= metrics.EXACT_DB for run in runs]
    certified, worst = [run["certified"] for run in runs], min(run["psnr"] for run in runs)
    draws = statistics.median(run["draws"] for run in runs) / theory.expected_draws(b)
    return {
        "b": b,
        "m": m,
        "dtype": dtype,
        "exact and certified": f"{sum(c and e for c, e in zip(certified, exact))}/{len(runs)}",
        "certified, not exact": sum(c and not e for c, e in zip(certified, exact)),
        "worst PSNR": "samples missing"
        if worst < -1e3
        else f"{worst:.0f} dB"
        if worst < 1e3
        else "bit by bit",
        "median time": f"{statistics.median(run['cpu'] for run in runs):.2f} s",
        "longest": f"{max(run['cpu'] for run in runs):.1f} s",
        "draws / (H_b 2^(b−1))": f"{draws:.2g}",
        "machine": runs[0]["machine"],
    }


# ---------------------------------------------------------------- large
def large(rows: dict, options: argparse.Namespace, keep: Callable[[], None]) -> None:
    """The largest batches that sampling alone is meant for."""
    for b, seed in [(b, seed) for b in (20, 24) for seed in range(min(options.seeds, LARGE_SEEDS))]:
        if f"{b} {seed}" in rows:
            continue
        run = photo_attack(b, 400, seed, torch.float32, progress=True, time_limit=LARGE_LIMIT)
        rows[f"{b} {seed}"] = {
            "b": b,
            "seed": seed,
            "time": f"{run['cpu']:.1f} s",
            "wall time": f"{run['wall']:.1f} s",
            "certified": run["certified"],
            "worst PSNR": f"{run['psnr']:.0f} dB" if run["recovered"] == b else "samples missing",
            "draws": f"{run['draws']:,}",
            "draws / (H_b 2^(b−1))": f"{run['draws'] / theory.expected_draws(b):.2g}",
            "machine": machine(),
        }
        keep()


def large_table(rows: dict) -> str:
    return table(
        rows, "b", "seed", "time", "wall time", "certified", "worst PSNR", "draws", "draws / (H_b 2^(b−1))"
    )


# ---------------------------------------------------------------- imagenet
def imagenet(rows: dict, options: argparse.Namespace, keep: Callable[[], None]) -> None:
    """One attack in a process of its own, so that its peak memory is nothing but its own."""
    if rows:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "attack.pt"
        batch = data.load("photos", 16, size=224, generator=seeded(0))
        model = fully_connected(batch.inputs.shape[1], 400, 6, generator=seeded(1))
        gradients = client.gradients(model, batch.inputs, batch.labels)
        torch.save({"model": model.state_dict(), "gradients": gradients, "inputs": batch.inputs}, path)
        del model, gradients
        child = subprocess.run(
            [sys.executable, __file__, "--child", str(path), "--threads", str(options.threads)],
            check=True,
            capture_output=True,
            text=True,
        )
    rows["3×224×224, b = 16, m = 400"] = json.loads(child.stdout) | {"machine": machine()}
    keep()


def invert_file(path: Path) -> dict:
    """Load an attack, run it, and weigh it."""
    saved = torch.load(path, weights_only=True)
    gradients, G = saved["gradients"], saved["gradients"]["0.weight"]
    model = fully_connected(G.shape[1], 400, 6)
    model.load_state_dict(saved["model"])
    size = G.numel() * G.element_size()
    before = held_memory()
    began = time.process_time()
    found = spear_core.invert(model, gradients, method="sampling")
    seconds = time.process_time() - began
    grown = peak_memory() - before
    psnr = float(metrics.compare(found.inputs, saved["inputs"]).psnr.min())
    return {
        "time": f"{seconds:.2f} s",
        "two thin products": f"{thin_products(G):.2f} s",
        "certified": found.certified,
        "worst PSNR": f"{psnr:.0f} dB",
        "gradient": f"{size / 1e6:.0f} MB",
        "peak above model and gradients": f"{grown / 1e6:.0f} MB = {grown / size:.2f} gradients",
    }


def peak_memory() -> int:
    """Bytes that this process has ever held in memory."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def held_memory() -> int:
    """Bytes that this process holds now; where only the peak is known, that."""
    status = Path("/proc/self/status")
    if not status.exists():
        return peak_memory()
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def thin_products(G: Tensor) -> float:
    """CPU seconds for G Ω and Uᵀ G with 32 columns in G's own precision: the least that a sketch can cost."""
    omega, basis = torch.randn(G.shape[1], 32), torch.randn(G.shape[0], 32)
    times = []
    for _ in range(4):
        began = time.process_time()
        G @ omega
        basis.T @ G
        times.append(time.process_time() - began)
    return min(times)


def imagenet_table(rows: dict) -> str:
    heads = [head for head in next(iter(rows.values()), {}) if head != "machine"]
    return table(rows, *heads)


# ---------------------------------------------------------------- hard
def hard(rows: dict, options: argparse.Namespace, keep: Callable[[], None]) -> None:
    """Batches that invite a false certificate."""
    for kind in KINDS:
        row = rows.setdefault(kind, {"kind": kind, "runs": 0, "certified": 0, "refused": 0, "false rows": 0})
        row["machine"] = machine()
        for seed in tqdm(range(row["runs"], math.ceil(options.runs / len(KINDS))), desc=kind):
            outcome, false_rows = hard_attack(kind, seed)
            row["runs"] += 1
            row["false rows"] += false_rows
            if outcome in row:
                row[outcome] += 1
            keep()


def hard_attack(kind: str, seed: int) -> tuple[str, int]:
    """Outcome, and how many certified rows are near no true one."""
    b, m = 2 + seed % 9, WIDTHS[seed % 3]
    if kind.startswith("shifted"):
        inputs = shifted(b, int(kind.split()[2]), seeded(seed))
        labels = torch.randint(10, (b,), generator=seeded(seed))
    else:
        batch = data.load("photos", b, standardize=kind != "raw pixels", generator=seeded(seed))
        inputs = batch.inputs
        labels = torch.full_like(batch.labels, seed % 10) if kind == "one label" else batch.labels
    model = fully_connected(inputs.shape[1], m, 6, generator=seeded(10_000 + seed))
    gradients = client.gradients(model, inputs, labels)
    try:
        found = spear_core.invert(
            model, gradients, method="sampling", generator=seeded(seed), max_samples=20_000, time_limit=5
        )
    except ValueError:  # of identical crops the rank tells no batch
        return "refused", 0
    rows = found.inputs[found.certified_rows].double()
    nearest = torch.cdist(rows, inputs.double()).argmin(dim=1)
    error = (rows - inputs.double()[nearest]).square().mean(dim=1).sqrt()
    psnr = 20 * ((inputs.max() - inputs.min()) / error).log10()
    return "certified" if found.certified else "flagged", int((psnr < metrics.EXACT_DB).sum())


def shifted(b: int, shift: int, generator: torch.Generator, size: int = 32) -> Tensor:
    """Crops of one photograph, each a pixel or two beside the last; flat sky is not thrown away."""
    photos = data.photographs()
    photo = torch.from_numpy(photos[int(torch.randint(len(photos), (), generator=generator))].copy()) / 255
    top = int(torch.randint(photo.shape[0] - size, (), generator=generator))
    left = int(torch.randint(photo.shape[1] - size - b * shift, (), generator=generator))
    crops = [photo[top : top + size, left + i * shift :][:, :size].permute(2, 0, 1) for i in range(b)]
    rows = torch.stack(crops).flatten(1)
    return (rows - rows.mean()) / rows.std().clamp_min(1e-3)


def hard_table(rows: dict) -> str:
    runs, false = (sum(row[name] for row in rows.values()) for name in ("runs", "false rows"))
    counted = table(rows, "kind", "runs", "certified", "refused", "false rows")
    return f"{counted}\n\nfalse certificates: {false} rows in {runs} runs"


PARTS = {"rate": rate, "exact": exact, "large": large, "imagenet": imagenet, "hard": hard}
TABLES = {
    "rate": rate_table,
    "exact": exact_table,
    "large": large_table,
    "imagenet": imagenet_table,
    "hard": hard_table,
}


if __name__ == "__main__":
    sys.exit(main())
