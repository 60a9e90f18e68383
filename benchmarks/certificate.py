"""Is anything certified that is not exact, and is every promise kept? Counts over random worlds.

    python benchmarks/certificate.py                      # 10,000 worlds, resumed where they stopped
    python benchmarks/certificate.py --alike              # 1,000 of samples that resemble each other, and raw tables
    python benchmarks/certificate.py --method sampling    # another method, counted beside it
    python benchmarks/certificate.py --show 20            # one world by itself, with --alike and --method as above

Every seed is a world: data, network, loss, start, what happened to the gradient, and how the attack is called (see
`world`). It is attacked and compared with the truth. A *false certificate* is a row that is certified and below 90
dB, or a second row for one sample. A *broken promise* is an error that is not typed, a model, gradient or random
state that is not left as it was, a time limit that passes by more than a tenth and half a second, or a method that
`diagnose` lists and `invert` refuses. Counted as well: rows that are false because the world breaks an assumption of
the certificate (*assumed*: a wrong `batch_size`, factors of their own for bias gradients where no later layer is
known), samples that a certified batch lacks, which a rank cannot know, and wrong labels. Counts, and every world that
went wrong, are kept in benchmarks/results/certificate.json; the exit status is 1 if there is one.
"""

import argparse
from functools import partial
from multiprocessing import get_context

import torch
from _common import RESULTS, machine, store, stored, table
from tqdm.auto import tqdm
from world import draw, trial

PATH = RESULTS / "certificate.json"
PARTS = ("data", "network", "loss", "start", "tampering", "call")
FIRST = 10_000_000  # seed of the first world: far from all on which faults were found and mended
SUMS = ("rows", "false", "assumed", "broken", "missing", "wrong labels", "seconds")


def main() -> int:
    """Run what is missing and print the counts by kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--alike", action="store_true", help="samples that resemble each other, and raw tables"
    )
    parser.add_argument("--runs", type=int, help="10,000, or 1,000 with --alike")
    parser.add_argument("--method", help="of all worlds; by default each draws its own, mostly auto")
    parser.add_argument("--time-limit", type=float, default=1.0, help="CPU seconds for each attack")
    parser.add_argument("--processes", type=int, default=1, help="that share the worlds, a thread each")
    parser.add_argument("--fresh", action="store_true", help="forget the stored runs of this part")
    parser.add_argument(
        "--show", type=int, metavar="SEED", help="attack once and print the world and the result"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.show is not None:
        print(show(options.show, options.alike, options.method, options.time_limit))
        return 0
    part = f"{'alike' if options.alike else 'world'}, {options.method or 'any method'}"
    result = {} if options.fresh else stored(PATH).get(part, {})
    result = {"done": 0, "counts": {}, "wrong": [], "MiB": 0} | result
    runs = options.runs or (1_000 if options.alike else 10_000)
    ask = partial(trial.run, limit=options.time_limit, alike=options.alike, method=options.method)
    worlds = range(FIRST + result["done"], FIRST + runs)
    with get_context("spawn").Pool(options.processes, torch.set_num_threads, (1,)) as pool:
        for row in tqdm(pool.imap(ask, worlds), initial=result["done"], total=runs):
            add(result, row)
            if result["done"] % 10 == 0 or result["done"] == runs:
                store(PATH, {part: {"machine": machine(), **result}})
    print(counted(result))
    return int(bool(result["wrong"]))


def add(result: dict, row: dict) -> None:
    """Count a run, for each part of its world; keep it whole where something is wrong."""
    numbers = {"false": len(row["false"]), "broken": len(row["violations"])}
    for part in PARTS:
        kind = row["words"][part].partition("," if part in ("start", "call") else ";")[0]
        count = result["counts"].setdefault(part, {}).setdefault(kind, {})
        for name in ("runs", row["outcome"]):
            count[name] = count.get(name, 0) + 1
        for name in SUMS:
            count[name] = round(count.get(name, 0) + numbers.get(name, row.get(name, 0)), 3)
    result["done"] += 1
    result["MiB"] = max(result["MiB"], row["MiB"])
    if row["false"] or row["violations"]:
        result["wrong"].append(row)


def counted(result: dict) -> str:
    """A table for each part of a world, and what went wrong."""
    heads = ("runs", *trial.OUTCOMES, *SUMS)
    texts = []
    for part, kinds in result["counts"].items():
        rows = [(kind, *(count.get(head, 0) for head in heads)) for kind, count in sorted(kinds.items())]
        total = ("all", *(round(sum(row[i] for row in rows), 1) for i in range(1, len(heads) + 1)))
        rows = [(*row[:-1], f"{row[-1]:.0f}") for row in (*rows, total)]
        texts.append(table((part, *heads), rows))
    for row in result["wrong"]:
        texts.append(f"{row['seed']}: {'; '.join(row['false'] + row['violations'])} ({told(row)})")
    return "\n\n".join([*texts, f"{result['done']} worlds, at most {result['MiB']} MiB"])


def told(row: dict) -> str:
    return " | ".join(row["words"].values())


def show(seed: int, alike: bool, method: str | None, limit: float) -> str:
    """One world and its result."""
    world = draw.draw(seed, alike=alike, method=method)
    row = trial.run(seed, limit=limit, alike=alike, method=method)
    try:
        found = str(trial.attack(world, limit))
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    wrong = "\n".join([*row["false"], *row["violations"]]) or "nothing is wrong"
    return f"{world}\n\n{found}\n\n{wrong}"


if __name__ == "__main__":
    raise SystemExit(main())
