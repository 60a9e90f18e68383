"""Is anything certified that is not exact? Counts false certificates over hard cases.

    python benchmarks/certificate.py --runs 1000

Every run draws one of the kinds below, attacks it with `method="auto"` (or `--method`), and compares with the
truth. A *false certificate* is a certified row below 90 dB. The last line is the count; the exit status is 1
if it is not zero.
"""

import argparse
import random
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

import spear_core
from spear_core import client, data, metrics, networks

ACTIVATIONS = (nn.GELU, nn.SiLU, nn.Tanh, nn.ELU, nn.LeakyReLU, nn.Softplus)


def main() -> int:
    """Run the count and print it by kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--method", default="auto")
    parser.add_argument("--time-limit", type=float, default=5.0, help="seconds for each attack")
    options = parser.parse_args()
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for run in tqdm(range(options.runs)):
        kind = list(KINDS)[run % len(KINDS)]
        outcome, false_rows = attack(kind, options.seed + run, options.method, options.time_limit)
        counts[kind][outcome] += 1
        counts[kind]["false rows"] += false_rows
    print(f"| {'kind':28} | runs | certified | partly | not | refused | false rows |")
    print("|---|---|---|---|---|---|---|")
    for kind, count in counts.items():
        columns = [count[name] for name in ("certified", "partly", "not", "refused", "false rows")]
        print(f"| {kind:28} | {sum(columns[:4])} | " + " | ".join(str(value) for value in columns) + " |")
    false = sum(count["false rows"] for count in counts.values())
    print(f"false certificates: {false} in {options.runs} runs")
    return int(false > 0)


def attack(kind: str, seed: int, method: str, time_limit: float) -> tuple[str, int]:
    """One run: its outcome, and the number of certified rows that are not exact."""
    model, gradients, inputs = KINDS[kind](random.Random(seed), torch.Generator().manual_seed(seed))
    try:
        found = spear_core.invert(model, gradients, method=method, time_limit=time_limit)
    except ValueError:
        return "refused", 0
    psnr = best_psnr(found.inputs[found.certified_rows], inputs)
    outcome = "certified" if found.certified else "partly" if found.certified_rows.any() else "not"
    return outcome, int((psnr < metrics.EXACT_DB).sum())


def best_psnr(rows: Tensor, truth: Tensor) -> Tensor:
    """PSNR of each recovered row against the nearest true one, in dB."""
    if not len(rows):
        return torch.zeros(0)
    found, true = rows.to(torch.float64), truth.to(torch.float64)
    nearest = torch.cdist(found, true, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1).values
    return 20 * torch.log10((true.max() - true.min()) / (nearest / true.shape[1] ** 0.5))


def _setup(
    rng: random.Random,
    generator: torch.Generator,
    *,
    change: Callable[[Tensor], Tensor] = lambda inputs: inputs,
    activation: type[nn.Module] = nn.ReLU,
    one_label: bool = False,
    standardize: bool = True,
    crowded: bool = False,
) -> tuple[nn.Module, dict[str, Tensor], Tensor]:
    width = rng.choice((100, 200, 400))
    b = rng.randint(width // 3, width // 2) if crowded else rng.randint(2, 24)
    batch = data.load("photos", b, size=16, standardize=standardize, generator=generator)
    inputs = change(batch.inputs)
    labels = torch.full_like(batch.labels, 3) if one_label else batch.labels
    model = networks.fully_connected(
        inputs.shape[1], width, rng.randint(2, 6), activation=activation, generator=generator
    )
    return model, client.gradients(model, inputs, labels), inputs


def _near_duplicates(inputs: Tensor) -> Tensor:
    """Half of the batch again, one pixel further."""
    half = len(inputs) // 2
    shifted = inputs.reshape(-1, 3, 16, 16).roll(1, dims=3).flatten(1)
    return torch.cat([inputs[: len(inputs) - half], shifted[:half]])


def _noisy(rng: random.Random, generator: torch.Generator) -> tuple[nn.Module, dict[str, Tensor], Tensor]:
    model, gradients, inputs = _setup(rng, generator)
    size = 10 ** rng.uniform(-6, -2)
    for grad in gradients.values():
        grad += size * grad.square().mean().sqrt() * torch.randn(grad.shape, generator=generator)
    return model, gradients, inputs


def _low_precision(
    rng: random.Random, generator: torch.Generator
) -> tuple[nn.Module, dict[str, Tensor], Tensor]:
    model, gradients, inputs = _setup(rng, generator)
    dtype = rng.choice((torch.float16, torch.bfloat16))
    return model, {name: grad.to(dtype) for name, grad in gradients.items()}, inputs


def _stale(rng: random.Random, generator: torch.Generator) -> tuple[nn.Module, dict[str, Tensor], Tensor]:
    model, gradients, inputs = _setup(rng, generator)
    with torch.no_grad():
        for parameter, grad in zip(model.parameters(), gradients.values(), strict=True):
            parameter -= 0.1 * grad
    return model, gradients, inputs


KINDS: dict[str, Callable[[random.Random, torch.Generator], tuple[nn.Module, dict[str, Tensor], Tensor]]] = {
    "photographs": _setup,
    "near-duplicates": lambda r, g: _setup(r, g, change=_near_duplicates),
    "the same sample twice": lambda r, g: _setup(r, g, change=lambda x: torch.cat([x[:-1], x[:1]])),
    "one label": lambda r, g: _setup(r, g, one_label=True),
    "raw pixels": lambda r, g: _setup(r, g, standardize=False),
    "near-duplicates, one label": lambda r, g: _setup(r, g, change=_near_duplicates, one_label=True),
    "b > m/3": lambda r, g: _setup(r, g, crowded=True),
    "noise 1e-6 to 1e-2": _noisy,
    "float16, bfloat16": _low_precision,
    "weights one step old": _stale,
    "smooth activations": lambda r, g: _setup(r, g, activation=r.choice(ACTIVATIONS)),
    "smooth, near-duplicates": lambda r, g: _setup(
        r, g, change=_near_duplicates, activation=r.choice(ACTIVATIONS)
    ),
}

if __name__ == "__main__":
    raise SystemExit(main())
