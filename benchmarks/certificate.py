"""Is anything certified that is not exact? Counts false certificates over hard cases.

    python benchmarks/certificate.py                                 # 1,000 runs, resumed where they stopped
    python benchmarks/certificate.py --method sampling --runs 300    # another method, counted beside it
    python benchmarks/certificate.py --show "noise 1e-6 to 1e-2" 20  # one run by itself

Every run draws one of the kinds below, attacks it, and compares with the truth. A *false certificate* is a
certified row below 90 dB, or a second row for one sample. Two samples of one label that differ by less than the
square root of the precision leave one row, as the same sample twice does: no gradient of that precision tells them
apart. Such a row, between the two of them, is counted as *merged*. Of certified batches the labels are counted as
well, except where one sample has two of them. Results are kept in benchmarks/results/certificate.json; the exit
status is 1 if there is a false certificate.
"""

import argparse
import random
import time
from collections.abc import Callable

import torch
from _common import RESULTS, machine, seeded, stop_after, store, stored, table
from torch import Tensor, nn
from tqdm.auto import tqdm

import spear_core
from spear_core import client
from spear_core.client import data, networks
from spear_core.study import metrics

PATH = RESULTS / "certificate.json"
ACTIVATIONS = (nn.GELU, nn.SiLU, nn.Tanh, nn.ELU, nn.LeakyReLU, nn.Softplus)
COUNTS = ("certified rows", "false rows", "merged rows", "wrong labels")
SAME = 3e-3  # relative distance of two samples up to which they may be one to a float32 gradient
OUTCOMES = ("certified", "partly", "not", "refused")
Attacked = tuple[nn.Module, dict[str, Tensor], Tensor, Tensor]


def main() -> int:
    """Run what is missing and print the counts by kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--method", default="auto")
    parser.add_argument("--time-limit", type=float, default=2.0, help="CPU seconds for each attack")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--fresh", action="store_true", help="forget the stored runs of this method")
    parser.add_argument("--show", nargs=2, metavar=("KIND", "SEED"), help="attack once and print the result")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.show:
        print(show(options.show[0], int(options.show[1]), options.method, options.time_limit))
        return 0
    kinds = list(KINDS)
    runs = [] if options.fresh else stored(PATH).get(options.method, {}).get("runs", [])
    for seed in tqdm(range(len(runs), options.runs), initial=len(runs), total=options.runs):
        runs.append(attack(kinds[seed % len(kinds)], seed, options.method, options.time_limit))
        if seed % 10 == 9 or seed == options.runs - 1:
            store(PATH, {options.method: {"machine": machine(), "runs": runs}})
    print(counted(runs))
    return int(any(run["false rows"] for run in runs))


def counted(runs: list[dict]) -> str:
    """The table by kind, and the sum."""
    heads = ("kind", "runs", *OUTCOMES, *COUNTS, "seconds")
    rows = []
    for kind in (*KINDS, "all"):
        chosen = [run for run in runs if kind in ("all", run["kind"])]
        outcomes = [sum(run["outcome"] == outcome for run in chosen) for outcome in OUTCOMES]
        sums = [sum(run[name] for run in chosen) for name in COUNTS]
        rows.append((kind, len(chosen), *outcomes, *sums, f"{sum(run['seconds'] for run in chosen):.0f}"))
    false = [f"{run['kind']} {run['seed']}" for run in runs if run["false rows"]]
    return f"{table(heads, rows)}\n\nfalse certificates: {', '.join(false) or 'none'} in {len(runs)} runs"


def attack(kind: str, seed: int, method: str, time_limit: float) -> dict:
    """One run: its outcome, and how many certified rows and labels are wrong."""
    model, gradients, inputs, targets = draw(kind, seed)
    run = {"kind": kind, "seed": seed, "outcome": "refused", "seconds": 0.0}
    run |= dict.fromkeys(COUNTS, 0)
    began = time.process_time()
    try:
        found = spear_core.invert(
            model, gradients, method=method, progress=stop_after(time_limit), generator=seeded(seed)
        )
    except ValueError:
        return run
    run["seconds"] = round(time.process_time() - began, 3)
    proven = found.inputs[found.certified_rows]
    score = metrics.compare(proven, inputs)
    run["outcome"] = "certified" if found.certified else "partly" if len(proven) else "not"
    run["certified rows"] = len(proven)
    wrong = torch.ones(len(proven), dtype=torch.bool)
    wrong[score.order[score.exact]] = False
    run["merged rows"] = merged_rows(proven[wrong], inputs, targets)
    run["false rows"] = int(wrong.sum()) - run["merged rows"]
    if found.labels is not None and len(inputs.unique(dim=0)) == len(inputs):
        paired = score.order >= 0
        labels = found.labels[found.certified_rows][score.order[paired]]
        run["wrong labels"] = int((labels != targets[paired]).sum())
    return run


def merged_rows(rows: Tensor, inputs: Tensor, targets: Tensor) -> int:
    """How many rows lie, to 90 dB, between two samples of one label that are the same to SAME."""
    rows, inputs = rows.double(), inputs.double()
    count = 0
    for row in rows:
        i, j = torch.cdist(row[None], inputs)[0].topk(2, largest=False).indices.tolist()
        apart = inputs[j] - inputs[i]
        part = ((row - inputs[i]) @ apart / (apart @ apart)).clamp(0, 1)
        between = torch.stack(
            [inputs[i] + part * apart, inputs.max().expand_as(row), inputs.min().expand_as(row)]
        )
        exact = bool(metrics.compare(row[None], between).exact[0])
        same = bool(apart.norm() < SAME * inputs[i].norm()) and bool(targets[i] == targets[j])
        count += exact and same
    return count


def show(kind: str, seed: int, method: str, time_limit: float) -> str:
    """One run, with the PSNR of every certified row."""
    model, gradients, inputs, _ = draw(kind, seed)
    found = spear_core.invert(
        model, gradients, method=method, progress=stop_after(time_limit), generator=seeded(seed)
    )
    score = metrics.compare(found.inputs[found.certified_rows], inputs)
    return f"{model}\n{found}\nPSNR of the certified rows: {[round(p) for p in score.psnr.tolist() if p > 0]}"


# ---------------------------------------------------------------- kinds
def draw(kind: str, seed: int) -> Attacked:
    """Network, gradients, inputs and labels of a run."""
    return KINDS[kind](random.Random(seed), seeded(seed))


def setup(
    rng: random.Random,
    generator: torch.Generator,
    *,
    change: Callable[[Tensor], Tensor] = lambda inputs: inputs,
    activation: type[nn.Module] = nn.ReLU,
    one_label: bool = False,
    standardize: bool = True,
    crowded: bool = False,
    source: str = "photos",
) -> Attacked:
    """A batch of small pictures or table rows, a fresh network of 2 to 6 linear layers, and its gradients."""
    width = rng.choice((100, 200, 400))
    b = rng.randint(width // 3, width // 2) if crowded else rng.randint(2, 24)
    if source in data.TABLES:
        b = rng.randint(14, 60)  # more rows than columns
    batch = data.load(source, b, size=16, standardize=standardize, generator=generator)
    inputs = change(batch.inputs)
    labels = torch.full_like(batch.labels, 1) if one_label else batch.labels
    model = networks.fully_connected(
        inputs.shape[1], width, rng.randint(2, 6), batch.classes, activation=activation, generator=generator
    )
    return model, client.gradients(model, inputs, labels), inputs, labels


def near_duplicates(inputs: Tensor) -> Tensor:
    """Half of the batch again, one pixel further."""
    half = len(inputs) // 2
    shifted = inputs.reshape(-1, 3, 16, 16).roll(1, dims=3).flatten(1)
    return torch.cat([inputs[: len(inputs) - half], shifted[:half]])


def nearly_the_same(inputs: Tensor) -> Tensor:
    """Half of the batch again, a thousandth of its size beside."""
    half = len(inputs) // 2
    return torch.cat([inputs[: len(inputs) - half], inputs[:half] + 1e-3 * inputs[:half].roll(1, dims=1)])


def twice(inputs: Tensor) -> Tensor:
    """The first sample again in the place of the last."""
    return torch.cat([inputs[:-1], inputs[:1]])


def noisy(attacked: Attacked, rng: random.Random, generator: torch.Generator) -> Attacked:
    """Gaussian noise on every entry, relative to the tensor's rms."""
    model, gradients, inputs, labels = attacked
    size = 10 ** rng.uniform(-6, -2)
    for grad in gradients.values():
        grad += size * grad.square().mean().sqrt() * torch.randn(grad.shape, generator=generator)
    return model, gradients, inputs, labels


def low_precision(attacked: Attacked, rng: random.Random, generator: torch.Generator) -> Attacked:
    """Gradients stored in 16 bits; half of the time sent on in 32."""
    model, gradients, inputs, labels = attacked
    dtype, sent = rng.choice((torch.float16, torch.bfloat16)), rng.random() < 0.5
    stored_grads = {name: grad.to(dtype) for name, grad in gradients.items()}
    return model, {n: g.float() if sent else g for n, g in stored_grads.items()}, inputs, labels


def stale(attacked: Attacked, rng: random.Random, generator: torch.Generator) -> Attacked:
    """Weights after one more step of gradient descent than the gradient is of."""
    model, gradients, inputs, labels = attacked
    rate = 10 ** rng.uniform(-4, -1)
    with torch.no_grad():
        for parameter, grad in zip(model.parameters(), gradients.values(), strict=True):
            parameter -= rate * grad
    return model, gradients, inputs, labels


def several(rng: random.Random, generator: torch.Generator) -> Attacked:
    """Two or more of the above at once."""
    attacked = setup(
        rng,
        generator,
        change=rng.choice((near_duplicates, nearly_the_same, twice)),
        activation=rng.choice((nn.ReLU, nn.ReLU, rng.choice(ACTIVATIONS))),
        one_label=rng.random() < 0.5,
        standardize=rng.random() < 0.5,
        crowded=rng.random() < 0.2,
    )
    spoil = rng.choice((None, None, noisy, low_precision, stale))
    return attacked if spoil is None else spoil(attacked, rng, generator)


KINDS: dict[str, Callable[[random.Random, torch.Generator], Attacked]] = {
    "photographs": setup,
    "near-duplicates": lambda r, g: setup(r, g, change=near_duplicates),
    "the same but for a thousandth": lambda r, g: setup(r, g, change=nearly_the_same),
    "the same sample twice": lambda r, g: setup(r, g, change=twice),
    "one label": lambda r, g: setup(r, g, one_label=True),
    "raw pixels": lambda r, g: setup(r, g, standardize=False),
    "near-duplicates, one label": lambda r, g: setup(r, g, change=near_duplicates, one_label=True),
    "b > m/3": lambda r, g: setup(r, g, crowded=True),
    "b > n": lambda r, g: setup(r, g, source="wine"),
    "noise 1e-6 to 1e-2": lambda r, g: noisy(setup(r, g), r, g),
    "float16, bfloat16": lambda r, g: low_precision(setup(r, g), r, g),
    "weights one step old": lambda r, g: stale(setup(r, g), r, g),
    "smooth activations": lambda r, g: setup(r, g, activation=r.choice(ACTIVATIONS)),
    "smooth, near-duplicates": lambda r, g: setup(
        r, g, change=near_duplicates, activation=r.choice(ACTIVATIONS)
    ),
    "several at once": several,
}

if __name__ == "__main__":
    raise SystemExit(main())
