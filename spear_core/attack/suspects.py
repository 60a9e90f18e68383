"""What was probably done to a gradient whose search failed: each suspect is tested on the data before it is named."""

import torch
from torch.nn.functional import normalize

from spear_core.attack import causes
from spear_core.linalg import misfit, orthonormal, value_and_slope
from spear_core.search import State, Target

DROPPED = 0.02  # share of active units with a zero gradient, from which on a mask is suspected
ONE_SIDED = 0.1  # of these so many inactive ones with a gradient at most: other causes disagree both ways
ASSUMED = "invert_layer takes it that ReLU follows; if another activation does, pass the model to invert"
NEAR = 0.01  # residual below which a batch is more than a guess
AFFINE = 1e-4  # misfit up to which activations are an affine function of inputs
ALIKE = 0.99  # cosine of two inputs' rows from which on they are called alike


def suspects(target: Target, state: State) -> tuple[str, ...]:
    """What a reader of a failed search should look into, the likeliest first, as notes; nothing that was not tested."""
    first = target.problem.attacked
    told = [*causes.marks(first, target.low_rank), _affine(target)]
    # of a batch that gives the gradient, and is more than a guess
    if state.certificate is not None and state.certificate.gradient_residual < NEAR:
        told += [_dropped(state), _alike(state)]
    notes = [f"suspected cause: {reason}" for reason in told if reason]
    return (*notes, ASSUMED) if not first.name and state.sparsity_match < 1 else tuple(notes)


def _affine(target: Target) -> str:
    """Where no sample leaves the part around β where σ is affine, what the next layer says follows from this one's."""
    first, b = target.problem.attacked, target.low_rank.batch_size
    if len(target.problem.layers) < 2 or first.activation is None or b + 1 >= len(first.bias):
        return ""
    y = target.splits.of(1, expected=b).rows.T
    value, slope = value_and_slope(first.activation, first.bias.to(y.dtype))
    affine = orthonormal(torch.column_stack([slope[:, None] * target.forward.weights.T, value]))
    if y.shape[1] > b + 1 or bool((misfit(affine, y) > AFFINE).any()):
        return ""
    return (
        "no sample leaves the part where every unit is affine, so nothing tells samples from their mixtures"
    )


def _dropped(state: State) -> str:
    """Dropout zeroes gradients of active units, and never gives one to an inactive unit."""
    found = state.reconstruction
    if found is None or found.agreement is None:
        return ""
    active, disagree = found.preactivations > 0, ~found.agreement
    dropped, wrong = int((active & disagree).sum()), int((~active & disagree).sum())
    share = dropped / max(1, int(active.sum()))
    if share < DROPPED or wrong > ONE_SIDED * dropped:
        return ""
    return (
        f"{share:.0%} of the active units have no gradient, and no inactive one has any: dropout in train mode at the "
        "client? Then λ cannot reach 1, and inputs may be right all the same"
    )


def _alike(state: State) -> str:
    """Near-duplicates, which rounding blurs most."""
    assert state.reconstruction is not None
    found = state.reconstruction
    rows = normalize(found.inputs, dim=1)
    alike = int(((rows @ rows.T).triu(1) > ALIKE).any(dim=0).sum())
    return f"{alike + 1} of the rows found are almost alike: near-duplicates" if alike else ""
