"""How often and how fast forward consistency finds whole batches of photographs: one row per case.

    python benchmarks/consistency.py --seeds 20            # everything, resumed where it stopped
    python benchmarks/consistency.py --only "b=24" --seeds 200

Times are the split and the search (without the certificate). CPU seconds on one thread by default, since wall
time on a shared machine measures the neighbours; `--wall` with `--threads 2` on a quiet one. The unit beside
them is one float32 `torch.linalg.svd` of the same gradient, measured in the same way and at the same moment.
"""

import argparse
import json
import platform
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn
from tqdm import tqdm

from spear_core import client, data, metrics
from spear_core.consistency import search
from spear_core.low_rank import split
from spear_core.networks import fully_connected
from spear_core.problem import LinearLayer, Problem

RESULTS = Path(__file__).parent / "results" / "consistency.json"


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    b: int
    m: int
    depth: int
    activation: str = "ReLU"
    data: str = "photos"
    standardize: bool = True
    seconds: float = 30.0

    @property
    def key(self) -> str:
        """What the row is called."""
        parts = [f"b={self.b} m={self.m} depth={self.depth} {self.activation}"]
        parts += [self.data] if self.data != "photos" else []
        parts += ["raw"] if not self.standardize else []
        return " ".join(parts)


CASES = (
    Case(8, 200, 4),
    *(Case(24, 400, depth) for depth in (3, 4, 6, 10)),
    Case(24, 400, 4, standardize=False),
    Case(100, 1000, 4),
    Case(100, 400, 4),
    Case(140, 400, 4),
    Case(170, 400, 6),
    Case(150, 400, 4, data="breast_cancer"),
    Case(100, 400, 4, data="digits"),
    Case(100, 400, 4, data="digits", standardize=False),
    *(Case(24, 400, 4, activation=name) for name in ("LeakyReLU", "ELU", "SELU", "SiLU", "GELU", "Mish")),
    *(Case(24, 400, 4, activation=name) for name in ("Softplus", "Tanh", "ReLU6", "Sigmoid")),
    Case(50, 1000, 4, activation="GELU"),
    Case(256, 2048, 4, seconds=300),
    Case(512, 2048, 4, seconds=600),
)


def problem(case: Case, seed: int) -> tuple[Problem, torch.Tensor]:
    """What the server sees of one unseen batch, and the batch."""
    generator = torch.Generator().manual_seed(seed)
    batch = data.load(case.data, case.b, standardize=case.standardize, generator=generator)
    model = fully_connected(
        batch.inputs.shape[1],
        case.m,
        case.depth,
        activation=getattr(nn, case.activation),
        generator=generator,
    )
    grads = client.gradients(model, batch.inputs, batch.labels)
    layers = tuple(
        LinearLayer(
            grads[f"{i}.weight"],
            grads[f"{i}.bias"],
            model[i].weight.detach(),
            model[i].bias.detach(),
            model[i + 1] if i + 1 < len(model) else None,
        )
        for i in range(0, len(model), 2)
    )
    return Problem(layers), batch.inputs


def measure(case: Case, seed: int, clock) -> dict:
    """One batch: how many of its samples came back, how many of the finds are none, and the times."""
    task, truth = problem(case, seed)
    generator = torch.Generator().manual_seed(seed)
    start = clock()
    low_rank = split(task.attacked.weight_grad, generator=generator)
    deadline = time.monotonic() + case.seconds
    *_, found = search(task, low_rank, generator=generator, deadline=deadline)
    seconds = clock() - start
    start = clock()
    torch.linalg.svd(task.attacked.weight_grad, full_matrices=False)
    svd = clock() - start
    psnr = metrics.compare(found.coefficients @ low_rank.rows, truth).psnr
    return {
        "seed": seed,
        "exact": int((psnr >= metrics.EXACT_DB).sum()),
        "found": len(found.misfit),
        "wrong": len(found.misfit) - int((psnr >= 40).sum()),
        "worst": float(psnr[psnr > 0].min()) if (psnr > 0).any() else 0.0,
        "seconds": seconds,
        "svd": svd,
    }


def row(case: Case, runs: list[dict]) -> str:
    """One line of the table."""
    complete = sum(run["exact"] == case.b for run in runs) / len(runs)
    share = sum(run["exact"] for run in runs) / (case.b * len(runs))
    seconds, svd = (statistics.median(run[k] for run in runs) for k in ("seconds", "svd"))
    return (
        f"| {case.key} | {len(runs)} | {100 * complete:.1f} % | {100 * share:.2f} % | "
        f"{sum(run['wrong'] for run in runs)} | {min(run['worst'] for run in runs):.0f} dB | "
        f"{1e3 * seconds:.0f} ms | {seconds / svd:.2f} |"
    )


def main() -> None:
    """Measure what is missing in the stored results, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--fresh", action="store_true", help="forget the stored results of these cases")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.perf_counter if arguments.wall else time.process_time
    setting = f"{arguments.threads} threads, {'wall' if arguments.wall else 'CPU'} seconds"
    cases = [case for case in CASES if arguments.only in case.key]
    for case in tqdm(cases, desc="cases", disable=None):
        name = f"{case.key} | {setting}"
        runs = [] if arguments.fresh else _stored().get(name, {"runs": []})["runs"]
        done = {run["seed"] for run in runs}
        missing = [seed for seed in range(1000, 1000 + arguments.seeds) if seed not in done]
        if missing:
            measure(case, 0, clock)  # the first call of every routine is slow
        for seed in tqdm(missing, desc=case.key, leave=False, disable=None):
            runs.append(measure(case, seed, clock))
            # read again: another process may have stored other cases meanwhile
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(_stored() | {name: {"case": asdict(case), "runs": runs}}, indent=1))
    stored = _stored()
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, {setting}")
    print("| case | batches | complete | samples exact | wrong | worst | median time | in SVDs |")
    print("|---|---|---|---|---|---|---|---|")
    for case in cases:
        runs = stored.get(f"{case.key} | {setting}", {"runs": []})["runs"]
        if runs:
            print(row(case, runs))


def _stored() -> dict:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


if __name__ == "__main__":
    main()
