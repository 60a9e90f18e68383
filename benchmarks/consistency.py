"""How often and how fast whole batches come back, by `spear_core.invert` with its default method: one row per case.

    python benchmarks/consistency.py --seeds 20                  # every row, resumed where it stopped
    python benchmarks/consistency.py --only "b=24 m=400" --seeds 200
    python benchmarks/consistency.py --show                      # the table of the stored results, no new runs

Exact means 90 dB or more; *certified* counts batches of which every sample is proven. Times are those of the whole
`invert` call, split to certificate, beside one float32 `torch.linalg.svd` of the same gradient, measured in the same
way and at the same moment. CPU seconds on one thread by default, since wall time on a shared machine measures the
neighbours; `--wall` with `--threads 2` on a quiet one.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from _common import RESULTS, machine, seeded, store, stored, table
from torch import nn
from tqdm import tqdm

import spear_core
from spear_core import client, data, metrics
from spear_core.networks import fully_connected

PATH = RESULTS / "consistency.json"
FIRST_SEED = 1000


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        b: batch size.
        m: width.
        depth: linear layers; a range is gone through seed by seed.
        aim: share that is aimed at, of batches or of samples, and seconds.
        activation: name in `torch.nn`.
        source: what `data.load` takes.
        standardize: whether the inputs are.
        size: side of the photographs.
        alone: whether the attacker sees one layer only.
        limit: seconds after which an attack ends.
    """

    b: int
    m: int
    depth: tuple[int, ...]
    aim: str
    activation: str = "ReLU"
    source: str = "photos"
    standardize: bool = True
    size: int = 32
    alone: bool = False
    limit: float = 60.0

    @property
    def key(self) -> str:
        """What the row is called."""
        depth = str(self.depth[0]) if len(self.depth) == 1 else f"{self.depth[0]}–{self.depth[-1]}"
        parts = [f"b={self.b} m={self.m} depth={depth} {self.activation}"]
        parts += [self.source] if self.source != "photos" else []
        parts += [] if self.standardize else ["raw"]
        parts += [f"{self.size}×{self.size}"] if self.size != 32 else []
        parts += ["one layer alone"] if self.alone else []
        return " ".join(parts)


KINKED = ("LeakyReLU", "ELU", "SELU", "SiLU", "GELU", "Mish", "Softplus", "Tanh", "ReLU6")
CASES = (
    Case(24, 400, tuple(range(3, 11)), "99.5 % of batches, 0.7 SVDs"),
    Case(8, 200, (3, 4, 5, 6), "99.5 % of batches, 20 ms"),
    Case(100, 1000, (3, 4, 5, 6), "99 % of batches, 1.5 s"),
    Case(100, 400, (3, 4, 5, 6), "98 % of batches, 1 s"),
    Case(140, 400, (4, 5, 6), "95 % of batches, 5 s"),
    Case(170, 400, (6,), "95 % of batches, 15 s", limit=120.0),
    Case(256, 2048, (3, 4, 5, 6), "98 % of samples, 8 s", limit=300.0),
    Case(512, 2048, (4,), "95 % of samples, 60 s", limit=600.0),
    Case(200, 400, (6, 10), "as far as it goes", limit=120.0),
    Case(150, 400, (4,), "all, 0.8 s", source="breast_cancer"),
    Case(100, 400, (4,), "all, 0.8 s", source="digits"),
    Case(100, 400, (4,), "all, 0.8 s", source="digits", standardize=False),
    Case(24, 400, (2,), "98 % of batches, 0.5 s"),
    Case(100, 1000, (2,), "95 % of samples, 5 s"),
    Case(100, 1000, (2,), "95 % of samples, 5 s", alone=True),
    *(Case(24, 400, (4, 6), "95 % of batches, 0.5 s", activation=name) for name in KINKED),
    Case(50, 1000, (4,), "95 % of samples, 2 s", activation="GELU"),
    Case(24, 400, (4,), "90 % of samples", activation="Sigmoid"),
    Case(24, 400, (4,), "90 % of samples", activation="Hardtanh"),
    Case(24, 400, (4,), "all", size=224),
)


def measure(case: Case, seed: int, clock: Callable[[], float]) -> dict:
    """One batch: how many of its samples came back, how many certified rows are not exact, and the times."""
    generator = seeded(seed)
    batch = data.load(case.source, case.b, size=case.size, standardize=case.standardize, generator=generator)
    model = fully_connected(
        batch.inputs.shape[1],
        case.m,
        case.depth[seed % len(case.depth)],
        activation=getattr(nn, case.activation),
        generator=generator,
    )
    gradients = client.gradients(model, batch.inputs, batch.labels)
    start = clock()
    if case.alone:
        linear = model[0]
        assert isinstance(linear, nn.Linear)
        sent, known = (gradients["0.weight"], gradients["0.bias"]), (linear.weight, linear.bias)
        found = spear_core.invert_layer(*sent, *(p.detach() for p in known), time_limit=case.limit)
    else:
        found = spear_core.invert(model, gradients, time_limit=case.limit)
    seconds = clock() - start
    start = clock()
    torch.linalg.svd(gradients["0.weight"], full_matrices=False)
    svd = clock() - start
    psnr = metrics.compare(found.inputs, batch.inputs).psnr
    sure = metrics.compare(found.inputs[found.certified_rows], batch.inputs).psnr
    return {
        "seed": seed,
        "depth": case.depth[seed % len(case.depth)],
        "exact": int((psnr >= metrics.EXACT_DB).sum()),
        "certified": bool(found.certified),
        "certified_rows": int(found.certified_rows.sum()),
        "false_rows": int(found.certified_rows.sum()) - int((sure >= metrics.EXACT_DB).sum()),
        "method": found.method,
        "seconds": seconds,
        "svd": svd,
    }


def row(case: Case, runs: list[dict]) -> list[str]:
    """One line of the table."""
    complete = sum(run["exact"] == case.b for run in runs)
    certified = sum(run["certified"] for run in runs)
    share = sum(run["exact"] for run in runs) / (case.b * len(runs))
    seconds, svd = (statistics.median(run[k] for run in runs) for k in ("seconds", "svd"))
    return [
        case.key,
        case.aim,
        f"{complete} of {len(runs)}",
        f"{certified} of {len(runs)}",
        f"{100 * share:.2f} %",
        str(sum(run["false_rows"] for run in runs)),
        f"{1e3 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s",
        f"{seconds / svd:.2f}",
    ]


def main() -> None:
    """Measure what is missing in the stored results, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--fresh", action="store_true", help="forget the stored results of these rows")
    parser.add_argument("--show", action="store_true", help="only print the table of what is stored")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.perf_counter if arguments.wall else time.process_time
    setting = f"{arguments.threads} threads, {'wall' if arguments.wall else 'CPU'} seconds"
    cases = [case for case in CASES if arguments.only in case.key]
    for case in tqdm([] if arguments.show else cases, desc="rows", disable=None):
        name = f"{case.key} | {setting}"
        runs = [] if arguments.fresh else stored(PATH).get(name, {"runs": []})["runs"]
        done = {run["seed"] for run in runs}
        missing = [seed for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds) if seed not in done]
        if missing and case.b <= 24:
            measure(case, 0, clock)  # the first call of every routine is slow
        for seed in tqdm(missing, desc=case.key, leave=False, disable=None):
            runs.append(measure(case, seed, clock))
            store(PATH, {name: {"case": asdict(case), "machine": machine(), "runs": runs}})
    results = stored(PATH)
    print(f"{machine()}, {setting}")
    heads = ("case", "aim", "exact batches", "certified", "exact samples", "false rows", "median", "in SVDs")
    kept = [(case, results.get(f"{case.key} | {setting}", {"runs": []})["runs"]) for case in cases]
    print(table(heads, (row(case, runs) for case, runs in kept if runs)))


if __name__ == "__main__":
    main()
