"""What Opacus' clipping hides, and what its noise hides: clipped gradients are inverted, with more and more noise.

Differentially private training clips the gradient of every example to a norm C and adds Gaussian noise of
deviation σ C, σ being the noise multiplier. Clipping by itself only rescales each example's share of the sum, so
the batch comes back exactly; it is the noise that protects. Everything private here is done by Opacus itself.

    pip install -e ".[federated]" -c constraints.txt
    python examples/opacus_noise.py
"""

import copy
import warnings
from dataclasses import dataclass

import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import Tensor, nn
from torch.nn import functional as F

import spear_core
from spear_core.client import data, networks
from spear_core.study import metrics

BATCH_SIZE = 4
CLIP_NORM = 0.5  # C; below the norm of every example's gradient, so each one is clipped
NOISE_MULTIPLIERS = (0.0, 1e-6, 1e-5, 1e-4, 1.0)  # real deployments use about 1
TIME_LIMIT = 3.0  # seconds for a search that noise may have made hopeless


@dataclass(frozen=True)
class Outcome:
    """What one noise multiplier leaves of the batch.

    Attributes:
        noise_multiplier: σ.
        inversion: what came back.
        score: its distance from the private batch.
    """

    noise_multiplier: float
    inversion: spear_core.Inversion
    score: metrics.Score

    def __str__(self) -> str:
        found, rows = len(self.inversion.inputs), self.inversion.certified_rows
        verdict = "exact, certified" if self.inversion.certified else "approximate, not certified"
        if not found:
            verdict = "nothing"
        median = f"{float(self.score.psnr.median()):.0f} dB" if found else "–"
        return f"{self.noise_multiplier:10g}{found:8}{int(rows.sum()):11}{median:>13}   {verdict}"


def private_gradients(
    model: nn.Module, inputs: Tensor, labels: Tensor, noise_multiplier: float, seed: int = 0
) -> dict[str, Tensor]:
    """One step of Opacus' optimiser on one batch: the gradients that it used.

    Args:
        model: left as it is; a copy of it takes the step.
        inputs: the private batch, shape (b, n).
        labels: shape (b,).
        noise_multiplier: σ; 0 clips only.
        seed: of the noise.

    Returns:
        Clipped, summed, noised and divided by b, under Opacus' own names (`_module.…`).
    """
    client = GradSampleModule(copy.deepcopy(model))
    optimiser = DPOptimizer(
        torch.optim.SGD(client.parameters(), lr=0.1),
        noise_multiplier=noise_multiplier,
        max_grad_norm=CLIP_NORM,
        expected_batch_size=len(inputs),
        generator=torch.Generator().manual_seed(seed),
    )
    F.cross_entropy(client(inputs), labels).backward()
    optimiser.step()
    return {name: parameter.grad for name, parameter in client.named_parameters()}


def run(noise_multipliers: tuple[float, ...] = NOISE_MULTIPLIERS) -> list[Outcome]:
    """Invert one client's gradients under each noise multiplier."""
    batch = data.load("photos", BATCH_SIZE, size=16, generator=torch.Generator().manual_seed(0))
    model = networks.fully_connected(
        batch.inputs.shape[1], 200, 3, batch.classes, generator=torch.Generator().manual_seed(1)
    )
    outcomes = []
    for noise_multiplier in noise_multipliers:
        gradients = private_gradients(model, batch.inputs, batch.labels, noise_multiplier)
        # noise gives the gradient full rank, so the batch size has to be told: a server knows it
        inversion = spear_core.invert(model, gradients, batch_size=BATCH_SIZE, time_limit=TIME_LIMIT)
        score = metrics.compare(inversion.inputs, batch.inputs)
        outcomes.append(Outcome(noise_multiplier, inversion, score))
    return outcomes


def main() -> None:
    """Print one line per noise multiplier."""
    warnings.filterwarnings("ignore", message="Full backward hook")  # photographs need no gradient
    print(
        f"{BATCH_SIZE} photographs, the gradient of each clipped to norm {CLIP_NORM} by Opacus, then noise:"
    )
    print("multiplier   found  certified  median PSNR   the result says")
    for outcome in run():
        print(outcome)
    print("Nothing found is what this attack could do in its time; it is no proof that nothing leaks.")


if __name__ == "__main__":
    main()
