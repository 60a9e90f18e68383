"""Where exactness ends: FedAvg updates, noise and clipping, tables, depth and width.

    python benchmarks/limits.py                       # every part, resumed where it stopped
    python benchmarks/limits.py --part fedavg --fresh # one part, measured again
    python benchmarks/limits.py --part noise --seeds 5

fedavg    photo crops, m = 400, four layers, the update of several local steps: share at ≥ 40 and ≥ 90 dB, certified
noise     gaussian noise relative to the gradient's rms, with and without clipping: PSNR, and how well it is predicted
tables    rows of real and mixed tables, more of them than columns included: share exact, categories included
layers    layers of fresh and trained networks of several depths and widths: share exact, and what goes with it

Each part is a module of its own, benchmarks/_limits_*.py. Results are kept in benchmarks/results/limits.json and
printed as Markdown. Times are CPU seconds on one thread.
"""

import argparse
import json

import torch
from _common import RESULTS, machine, stored, table
from _limits_fedavg import FEDAVG
from _limits_layers import LAYERS
from _limits_noise import NOISE
from _limits_tables import TABLES
from tqdm.auto import tqdm

PATH = RESULTS / "limits.json"
PARTS = {"fedavg": FEDAVG, "noise": NOISE, "tables": TABLES, "layers": LAYERS}


def main() -> int:
    """Measure what is missing, print everything; 1 if a certified row was not exact."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all")
    parser.add_argument(
        "--seeds", type=int, default=0, help="batches per case; by default the part's own number"
    )
    parser.add_argument("--time-limit", type=float, default=60.0, help="wall seconds for each attack")
    parser.add_argument("--fresh", action="store_true", help="forget the stored results of the part")
    options = parser.parse_args()
    torch.set_num_threads(1)
    false = 0
    for name in PARTS if options.part == "all" else [options.part]:
        part = PARTS[name]
        rows = {} if options.fresh else stored(PATH).get(name, {})
        todo = [(case, seed) for case in part.cases() for seed in range(options.seeds or part.seeds)]
        for case, seed in tqdm(todo):
            key = json.dumps([case, seed])
            if key not in rows:
                rows[key] = part.measure(case, seed, options.time_limit) | {"machine": machine()}
                save(name, rows)
        print(f"\n### {name}\n\n{printed(name, rows)}")
        false += sum(row["false"] for row in rows.values())
    return int(false > 0)


def printed(name: str, rows: dict[str, dict]) -> str:
    """The table of a part, with the machines that it was measured on."""
    by_case: dict[str, list[dict]] = {}
    for key, row in rows.items():
        by_case.setdefault(json.dumps(json.loads(key)[0]), []).append(row)
    lines = [line for case, runs in by_case.items() for line in PARTS[name].lines(json.loads(case), runs)]
    machines = sorted({row["machine"] for row in rows.values()})
    return "\n".join([table(lines[0], [line.values() for line in lines]), "", *machines])


def save(name: str, rows: dict) -> None:
    """Write one part beside the others, one run a line; an interruption leaves a whole file."""
    draft = PATH.with_suffix(".part")
    lines = [
        f"{json.dumps(part)}: {{\n"
        + ",\n".join(f"{json.dumps(key)}: {json.dumps(row)}" for key, row in runs.items())
        + "\n}"
        for part, runs in (stored(PATH) | {name: rows}).items()
    ]
    draft.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    draft.replace(PATH)


if __name__ == "__main__":
    raise SystemExit(main())
