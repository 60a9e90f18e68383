"""Which samples shared a minibatch, and in which order: read off the update itself.

Every local step moves the weights, so a sample's error ∂L/∂z depends on what came before it. With the inputs
known, η Σ_t w_ti ∂L/∂z_i(t) is known for every sample i, and the weights w_ti of the samples in the steps, 1 / (size of
the minibatch) or 0, are the only unknowns left. They are relaxed to real numbers, found by Gauss–Newton
through the simulated client, and rounded to the nearest division of the batch.
"""

import time

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from spear_core.local_training import Client, LocalTraining

PASSES = 4  # Gauss–Newton steps
ROUNDED = 4.0  # times the update's own rounding; a division that explains it so well is the right one
DIFFERENCE = 1e-5  # step of the finite differences, relative to the weight of one sample


def find_schedule(
    client: Client,
    training: LocalTraining,
    inputs: Tensor,
    labels: Tensor,
    output_grads: Tensor,
    *,
    deadline: float = float("inf"),
) -> Tensor:
    """Weight of every sample in every step, shape (T, b), of a client that does not shuffle between epochs.

    Args:
        client: the simulated client.
        training: what the server told it to do.
        inputs: c in the basis V, shape (b, b).
        labels: shape (b,).
        output_grads: η Σ_t w_ti ∂L/∂z_i(t) of the first layer, shape (b, m).
        deadline: `time.monotonic()` after which to settle for the order as it stands.
    """
    b = len(inputs)
    in_order = training.schedule(torch.arange(b, device=inputs.device))
    if training.is_full_batch(b):
        return in_order
    sizes = 1 / in_order.amax(dim=1)
    epoch = -(-b // (training.batch_size or b))  # steps of one
    unknown = min(epoch, len(in_order))
    tie = torch.arange(len(in_order), device=inputs.device) % unknown
    w = torch.full((unknown, b), 1 / b, dtype=torch.float64, device=inputs.device)

    def columns(w: Tensor) -> Tensor:
        grads = client.train(inputs, labels, w[tie])[0][0]
        return client.lr * grads.reshape(len(tie), b, -1).sum(dim=0)

    step, close = DIFFERENCE / b, ROUNDED * client.rounding * output_grads.norm()
    for _ in range(PASSES):
        at = columns(w)
        jacobian = at.new_zeros(at.numel(), w.numel())
        for k in range(w.numel()):
            if time.monotonic() > deadline:
                return in_order
            moved = w.clone()
            moved.view(-1)[k] += step
            jacobian[:, k] = ((columns(moved) - at) / step).flatten()
        w = w + torch.linalg.lstsq(jacobian, (output_grads - at).flatten()[:, None]).solution.reshape(w.shape)
        divided = _rounded(w, sizes[:unknown], epoch)
        if (columns(divided) - output_grads).norm() <= close:
            break
    return divided[tie]


def _rounded(w: Tensor, sizes: Tensor, epoch: int) -> Tensor:
    """The nearest weights that divide the batch: in every epoch each sample in one step, each step full."""
    rounded = torch.zeros_like(w)
    for first in range(0, len(w), epoch):
        size = sizes[first : first + epoch]
        places = torch.repeat_interleave(torch.arange(len(size)), size.round().to(torch.int64).cpu())
        # moving sample i from where the relaxed weights put it costs (1/size − w)² in place of w²
        gain = ((2 * w[first : first + epoch] - 1 / size[:, None]) / size[:, None]).cpu()[places]
        place, sample = linear_sum_assignment(-gain.numpy())
        rounded[first + places[torch.as_tensor(place)].to(w.device), torch.as_tensor(sample).to(w.device)] = 1
    return rounded / sizes[:, None]
