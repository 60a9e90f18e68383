"""How often and how fast whole batches come back, by `spear_core.invert` with its default method: one row per case.

    python benchmarks/consistency.py --seeds 20                  # every row, resumed where it stopped
    python benchmarks/consistency.py --only "b=24 m=400" --seeds 200
    python benchmarks/consistency.py --show                      # the table of the stored results, no new runs

Exact means 90 dB or more; *certified* counts batches of which every sample is proven. Behind one layer alone, with
two classes and in a transformer the attacker is told b, without which no row can be proven to be one sample. Times
are those of the whole `invert` call, split to certificate, beside one float32 `torch.linalg.svd` of the same
gradient, measured in the same way and at the same moment; of wide gradients, also beside two thin products with G
in its own precision, and with the peak of memory beyond model and gradient. CPU seconds on one thread by default,
since wall time on a shared machine measures the neighbours; `--wall` with `--threads 2` on a quiet one.
"""

import argparse
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial

import torch
from _common import RESULTS, machine, seeded, store, stored, table
from _tokens import LAYER, LENGTH, tokens
from sampling import held_memory, thin_products
from torch import Tensor, nn
from tqdm import tqdm

import spear_core
from spear_core import client
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.study import metrics

PATH = RESULTS / "consistency.json"
FIRST_SEED = 1000
TOKENS = "tokens of a transformer"
LOOK = 0.002  # seconds between two looks at the memory
WIDE = 2**16  # inputs from which on a gradient is hardly held twice


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
        dtype: of the gradients.
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
    dtype: str = "float32"

    @property
    def batch_size(self) -> int | None:
        """What the attacker is told: b, where no loss says that a row is one sample."""
        untold = self.alone or self.source in ("breast_cancer", TOKENS)
        return self.b if untold else None

    @property
    def key(self) -> str:
        """What the row is called."""
        depth = str(self.depth[0]) if len(self.depth) == 1 else f"{self.depth[0]}–{self.depth[-1]}"
        parts = [f"b={self.b} m={self.m} depth={depth} {self.activation}"]
        parts += [self.source] if self.source != "photos" else []
        parts += [] if self.standardize else ["raw"]
        parts += [f"{self.size}×{self.size}"] if self.size != 32 else []
        parts += ["one layer alone"] if self.alone else []
        parts += [self.dtype] if self.dtype != "float32" else []
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
    Case(24, 400, (4,), "all, memory of 3 gradients", size=224),
    *(
        Case(48, 256, (2,), "as far as it goes", "GELU", TOKENS, dtype=dtype)
        for dtype in ("float32", "float64")
    ),
)


@dataclass(frozen=True)
class Attacked:
    """One gradient to invert.

    Attributes:
        invert: the attack.
        truth: the rows that are wanted.
        weight_grad: G of the attacked layer.
    """

    invert: Callable[[], spear_core.Inversion]
    truth: Tensor
    weight_grad: Tensor


def attacked(case: Case, seed: int) -> Attacked:
    """The batch of a case and a seed, and how to invert its gradient."""
    if case.source == TOKENS:
        dtype = getattr(torch, case.dtype)
        transformer, sent, truth = tokens(case.b // LENGTH, dtype, seed)
        attack = partial(
            spear_core.invert, transformer, sent, LAYER, batch_size=case.b, time_limit=case.limit
        )
        return Attacked(attack, truth, sent[f"{LAYER}.weight"])
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
    options = {"batch_size": case.batch_size, "time_limit": case.limit}
    attack = partial(spear_core.invert, model, gradients, **options)
    if case.alone:
        known = [p.detach() for p in model[0].parameters()]
        sent = gradients["0.weight"], gradients["0.bias"]
        attack = partial(spear_core.invert_layer, *sent, *known, **options)
    return Attacked(attack, batch.inputs, gradients["0.weight"])


def measure(case: Case, seed: int, clock: Callable[[], float]) -> dict:
    """One batch: how many of its samples came back, how many certified rows are not exact, times and memory."""
    given = attacked(case, seed)
    start = clock()
    found = given.invert()
    seconds = clock() - start
    start = clock()
    torch.linalg.svd(given.weight_grad, full_matrices=False)
    svd = clock() - start
    psnr = metrics.compare(found.inputs, given.truth).psnr
    sure = metrics.compare(found.inputs[found.certified_rows], given.truth).psnr
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
    } | (wide(given) if given.truth.shape[1] >= WIDE else {})


def wide(given: Attacked) -> dict:
    """Of a wide gradient: the peak of memory while it is inverted, in gradients, and seconds of two thin products."""
    stop, sizes, before = threading.Event(), [], held_memory()

    def watch() -> None:
        while not stop.wait(LOOK):
            sizes.append(held_memory())

    watcher = threading.Thread(target=watch)
    watcher.start()
    given.invert()
    stop.set()
    watcher.join()
    G = given.weight_grad
    return {"memory": (max(sizes) - before) / G.nbytes, "products": thin_products(G)}


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
        *beside_products(seconds, [run for run in runs if "memory" in run]),
    ]


def beside_products(seconds: float, runs: list[dict]) -> tuple[str, str]:
    """Time in thin products and memory in gradients, where they were measured."""
    if not runs:
        return "", ""
    products, memory = (statistics.median(run[name] for run in runs) for name in ("products", "memory"))
    return f"{seconds / products:.1f}", f"{memory:.1f} gradients"


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
    heads = (*heads, "in two thin products", "memory")
    kept = [(case, results.get(f"{case.key} | {setting}", {"runs": []})["runs"]) for case in cases]
    print(table(heads, (row(case, runs) for case, runs in kept if runs)))


if __name__ == "__main__":
    main()
