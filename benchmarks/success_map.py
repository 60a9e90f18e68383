"""How far consistency reaches: success over (b, m), and its cost over b.

    python benchmarks/success_map.py                  # both parts, resumed where they stopped
    python benchmarks/success_map.py --part cost --seeds 5

map    share of samples that come back exactly (90 dB or more), for six layers of width m and b from m/20 to
       0.7 m, with the limits that counting equations gives: b = m/2, where zeros and one relation end, and
       b = k m/(k+1) for k coupled relations
cost   CPU seconds of the whole `invert` call over b at m = 10 b, on one thread, with the mean slope on log axes

Results are kept in benchmarks/results/success_map.json, the table is printed, and docs/success_map.png is drawn.
"""

import argparse
import statistics
import time
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import numpy as np
import torch
from _common import RESULTS, machine, seeded, store, stored, table
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from tqdm.auto import tqdm
from world.promises import stop_after

import spear_core
from spear_core import client
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.study import metrics

PATH = RESULTS / "success_map.json"
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "success_map.png"
WIDTHS = (50, 100, 200, 400)
SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7)
SECONDS_PER_UNIT = 0.2  # CPU seconds for a batch of the map, times m; the round in which they end is finished
COST_BATCHES = (4, 8, 16, 32, 64, 128, 256)
DEPTH = {"map": 6, "cost": 4}
RELATIONS = (1, 2, 3)


def main() -> None:
    """Measure what is missing, print the tables, draw the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=["map", "cost", "all"], default="all")
    parser.add_argument("--seeds", type=int, default=2, help="batches for each (b, m)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="forget the stored results of the part")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cells = {"map": [(round(part * m), m) for m in WIDTHS for part in SHARES]}
    cells["cost"] = [(b, 10 * b) for b in COST_BATCHES]
    attack(24, 240, 4, 0, float("inf"))  # the first call of every routine is slow
    for part in cells if options.part == "all" else [options.part]:
        rows = {} if options.fresh else stored(PATH).get(part, {})
        keys = [(b, m, seed) for b, m in cells[part] for seed in range(options.seeds)]
        for b, m, seed in tqdm([key for key in keys if f"{key}" not in rows], desc=part):
            limit = SECONDS_PER_UNIT * m if part == "map" else float("inf")
            rows[f"{(b, m, seed)}"] = attack(b, m, DEPTH[part], seed, limit) | {"machine": machine()}
            store(PATH, {part: rows})
    measured = stored(PATH)
    print(f"{map_table(measured.get('map', {}))}\n\n{cost_table(measured.get('cost', {}))}")
    if measured.get("map") and measured.get("cost"):
        draw(measured["map"], measured["cost"])
        print(f"\nPicture: {PICTURE}")


def attack(b: int, m: int, depth: int, seed: int, limit: float) -> dict:
    """One batch of photo crops and back; stopped after `limit` CPU seconds, it counts with what it has."""
    batch = data.load("photos", b, size=32, generator=seeded(seed))
    model = fully_connected(batch.inputs.shape[1], m, depth, generator=seeded(10_000 + seed))
    gradients = client.gradients(model, batch.inputs, batch.labels)
    began = time.process_time()
    found = spear_core.invert(
        model,
        gradients,
        method="consistency",
        batch_size=b,
        generator=seeded(seed),
        progress=stop_after(limit),
    )
    seconds = time.process_time() - began
    proven = found.inputs[found.certified_rows]
    return {
        "b": b,
        "m": m,
        "exact": int(metrics.compare(found.inputs, batch.inputs).exact.sum()),
        "certified": len(proven),
        "false": len(proven) - int(metrics.compare(proven, batch.inputs).exact.sum()),
        "seconds": round(seconds, 4),
    }


def by_cell(rows: dict) -> dict[tuple[int, int], list[dict]]:
    """Runs of each (b, m)."""
    cells: dict[tuple[int, int], list[dict]] = {}
    for row in rows.values():
        cells.setdefault((row["b"], row["m"]), []).append(row)
    return dict(sorted(cells.items()))


def share(runs: list[dict], count: str = "exact") -> float:
    """Share of the samples that came back exactly, or of those that are certified."""
    return sum(run[count] for run in runs) / sum(run["b"] for run in runs)


def map_table(rows: dict) -> str:
    """Share of samples by width and b/m, in percent."""
    cells = by_cell(rows)
    lines = []
    for m in WIDTHS:
        runs = [cells.get((round(part * m), m)) for part in SHARES]
        lines.append((m, *("" if run is None else f"{100 * share(run):.0f}" for run in runs)))
    certified, false = (sum(row[name] for row in rows.values()) for name in ("certified", "false"))
    return (
        f"Samples exact, in %, depth {DEPTH['map']}; {certified} certified, {false} of them falsely\n\n"
        + table(("m", *(f"b = {part} m" for part in SHARES)), lines)
        + "\n\n"
        + "\n".join(sorted({row["machine"] for row in rows.values()}))
    )


def cost_table(rows: dict) -> str:
    """Median seconds and share exact over b, and the slope."""
    lines = []
    for (b, m), runs in by_cell(rows).items():
        shares = (f"{100 * share(runs, count):.1f} %" for count in ("exact", "certified"))
        lines.append((b, m, len(runs), *shares, f"{statistics.median(run['seconds'] for run in runs):.3f} s"))
    heads = ("b", "m", "batches", "samples exact", "certified", "median CPU time")
    return f"{table(heads, lines)}\n\nmean log-log slope from b = 16 on: {slope(rows):.2f}"


def medians(rows: dict) -> tuple[np.ndarray, np.ndarray]:
    """B and the median seconds."""
    cells = by_cell(rows)
    return np.array([b for b, _ in cells]), np.array(
        [statistics.median(run["seconds"] for run in runs) for runs in cells.values()]
    )


def slope(rows: dict) -> float:
    """Least-squares slope of log seconds over log b, where the work outweighs what every call costs."""
    b, seconds = medians(rows)
    if (b >= 16).sum() < 2:
        return float("nan")
    return float(np.polyfit(np.log(b[b >= 16]), np.log(seconds[b >= 16]), 1)[0])


# ---------------------------------------------------------------- picture
def draw(map_rows: dict, cost_rows: dict) -> None:
    """Both parts in one picture."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(11, 4.4), width_ratios=(1.25, 1), layout="constrained"
    )
    draw_map(left, map_rows)
    draw_cost(right, cost_rows)
    figure.savefig(PICTURE, dpi=110)
    plt.close(figure)


def draw_map(axes: Axes, rows: dict) -> None:
    """One square per (b, m), and the limits as lines."""
    cells = by_cell(rows)
    batches, widths = np.array([b for b, _ in cells]), np.array([m for _, m in cells])
    shares = [share(runs) for runs in cells.values()]
    dots = axes.scatter(widths, batches, c=shares, cmap="viridis", vmin=0, vmax=1, marker="s", s=46, zorder=3)
    ends = np.array([0, 1.14 * max(widths)])
    for k in RELATIONS:
        label = "b = m/2" if k == 1 else f"b = {k}m/{k + 1}"
        axes.plot(ends, ends * k / (k + 1), color="black", linewidth=1, linestyle=("-", "--", ":")[k - 1])
        axes.annotate(label, (ends[1], ends[1] * k / (k + 1)), xytext=(3, 0), textcoords="offset points")
    for b, m, part in zip(batches, widths, shares):
        if 0 < part < 1:
            words = f"{100 * part:.0f} %"
            axes.annotate(words, (m, b), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set(xlabel="width m", ylabel="batch size b", xlim=(0, ends[1]), ylim=(0, None))
    axes.set_title(f"Samples that come back exactly, {DEPTH['map']} layers")
    axes.figure.colorbar(dots, ax=axes, label="share of samples", pad=0.17)


def draw_cost(axes: Axes, rows: dict) -> None:
    """Median seconds over b on log axes."""
    b, seconds = medians(rows)
    axes.loglog(b, seconds, "o-", color="#2a788e")
    axes.set_xticks(b, labels=[str(value) for value in b])
    axes.minorticks_off()
    axes.set(xlabel="batch size b, with m = 10 b", ylabel="CPU seconds, one thread")
    axes.set_title("Cost: median of the whole call")


if __name__ == "__main__":
    main()
