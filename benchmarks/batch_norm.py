"""Clients whose BatchNorm was in training mode: how many samples come back, and how many are certified.

    python benchmarks/batch_norm.py --seeds 10               # every row, resumed where it stopped
    python benchmarks/batch_norm.py --show                   # the table of the stored results, no new runs

A client takes one step with cross-entropy on unseen photographs, and sends float32 gradients and running statistics.
*Exact* counts rows of 90 dB or more, *certified* those that `invert` calls one sample, or one sample but for a vector
that all rows share where the layer has fewer units than inputs: that vector, a part of the mean, is left out of the
comparison then. *False* are those that are certified below 90 dB, of which there must be none. CPU seconds, one thread.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from _common import RESULTS, machine, seeded, store, stored, table
from torch import nn

import spear_core
from spear_core.certificate.record import Claim
from spear_core.client import data
from spear_core.study.metrics import compare

PATH = RESULTS / "batch_norm.json"
FIRST_SEED = 100


@dataclass(frozen=True)
class Case:
    """A network, a batch size, and what the caller says."""

    name: str
    b: int
    m: int
    size: int
    norms: int = 1
    activation: Callable[[], nn.Module] = nn.ReLU
    told: bool = False  # b

    def network(self) -> nn.Sequential:
        """Two hidden layers of m units."""
        second = [nn.BatchNorm1d(self.m)] if self.norms > 1 else []
        first = [nn.Linear(3 * self.size**2, self.m), nn.BatchNorm1d(self.m), self.activation()]
        model = nn.Sequential(
            *first, nn.Linear(self.m, self.m), *second, self.activation(), nn.Linear(self.m, 10)
        )
        for module in model:
            if isinstance(module, nn.BatchNorm1d):  # as after some training
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.3)
        return model.train()


CASES = (
    Case("one BatchNorm, 200 units, n = 192", 8, 200, 8),
    Case("one BatchNorm, 400 units, n = 192", 24, 400, 8),
    Case("one BatchNorm, 200 units, n = 192, GELU", 8, 200, 8, activation=nn.GELU),
    Case("two BatchNorms, 200 units, n = 192, b told", 8, 200, 8, norms=2, told=True),
    Case("two BatchNorms, 400 units, n = 192, b told", 24, 400, 8, norms=2, told=True),
    Case("one BatchNorm, 200 units, n = 768, up to a vector", 8, 200, 16),
    Case("one BatchNorm, 400 units, n = 3,072, up to a vector", 24, 400, 32),
)


def run(case: Case, seed: int) -> dict[str, float]:
    """One client, one attack: rows that are exact, certified and false; the worst of them in dB; seconds."""
    batch = data.load("photos", case.b, size=case.size, generator=seeded(seed))
    torch.manual_seed(seed)
    model = case.network()
    after = copy.deepcopy(model)
    loss = nn.functional.cross_entropy(after(batch.inputs), batch.labels % 10)
    gradients = torch.autograd.grad(loss, list(after.parameters()))
    began = time.process_time()
    options = {"batch_size": case.b} if case.told else {}
    found = spear_core.invert(model, gradients, buffers=after.state_dict(), time_limit=60, **options)
    seconds = time.process_time() - began
    claim = Claim.SHIFTED if batch.inputs.shape[1] > case.m else Claim.SAMPLE
    certified = torch.tensor([given is claim for given in found.claims])
    rows, truth = found.inputs, batch.inputs
    if claim is Claim.SHIFTED:
        rows, truth = rows - rows.mean(dim=0), truth - truth.mean(dim=0)
    score = compare(rows, truth)
    false = int(certified.sum()) - int(certified[score.order[score.exact]].sum())
    return {
        "exact": int(score.exact.sum()),
        "certified": int(certified.sum()),
        "false": false,
        "worst": round(float(score.psnr.min()), 1),
        "seconds": round(seconds, 3),
    }


def main() -> None:
    """Measure what is missing, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--show", action="store_true", help="print the stored results, run nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for case in () if options.show else CASES:
        row = f"{case.name} | b={case.b}"
        runs = dict(stored(PATH).get(row, {}))
        for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
            if str(seed) not in runs:
                runs[str(seed)] = run(case, seed)
        store(PATH, {row: runs, "machine": machine()})
    print(machine(), shown(), sep="\n\n")


def shown() -> str:
    """The stored results as a table."""
    rows = []
    for row, runs in stored(PATH).items():
        if row == "machine":
            continue
        name, _, b = row.partition(" | b=")
        exact, certified, false = (
            sum(r[key] for r in runs.values()) for key in ("exact", "certified", "false")
        )
        worst = min(r["worst"] for r in runs.values())
        seconds = statistics.median(r["seconds"] for r in runs.values())
        of = int(b) * len(runs)
        rows.append((name, b, f"{exact} of {of}", certified, false, f"{worst:.0f} dB", f"{seconds:.2f} s"))
    return table(("network", "b", "exact", "certified", "false", "worst", "median time"), rows)


if __name__ == "__main__":
    main()
