"""Whether certified rows are what is claimed of them, and if not, what they are instead."""

from itertools import combinations

import torch
from torch import Tensor

from spear_core.attack.inversion import Inversion
from spear_core.certificate.record import Claim
from spear_core.study import metrics

from .client import Fed

NEAREST = 8  # samples of which pairs are tried as the two that were mixed
FADED = 0.01  # how far from 1 a factor may be that is none
PART = 1e-4  # weight from which on a sample is part of a mixture
TWINS = "a mean of samples that are the same to 3e-3"
MERGED = "a mixture of two, between them, which are the same to 3e-3"
SAME = 3e-3  # relative distance of two samples up to which they may be one to a float32 gradient


def claims(found: Inversion) -> tuple[Tensor, Tensor]:
    """Which rows are claimed to be samples, and which samples or a mean of several with one activation pattern."""
    return found.certified_rows, torch.tensor(
        [claim is Claim.MEAN for claim in found.claims], dtype=torch.bool
    )


def false_rows(found: Inversion, fed: Fed) -> list[str]:
    """What the rows are that were claimed to be more than they are, a text for each."""
    samples, means = claims(found)
    wrong = _unpaired(found.inputs[samples].double(), fed.rows)
    texts = [what(row, fed) for row in found.inputs[samples].double()[wrong]]
    for row in found.inputs[means].double():
        if not _exact(row, fed.rows).any() and _mean_of(row, fed) is None:
            # behind a smooth activation no two activate the same units, and the mean of what rounding merges is one
            text = what(row, fed)
            texts += [f"claimed a mean, is {text}"] if text != MERGED else []
    return texts


def merged(fed: Fed) -> bool:
    """Whether every sample has another one that rounding may merge it with."""
    apart = torch.cdist(fed.rows, fed.rows).fill_diagonal_(torch.inf).min(dim=1).values
    return bool((apart < SAME * fed.rows.norm(dim=1)).all())


def missing(found: Inversion, fed: Fed) -> int:
    """How many different samples that left a trace in the gradient are not among the rows."""
    reached = fed.rows[(fed.output_grads != 0).any(dim=1)].unique(dim=0)
    return sum(not _exact(sample, found.inputs.double(), fed.rows).any() for sample in reached)


def what(row: Tensor, fed: Fed) -> str:
    """The simplest thing that a row is, to 90 dB, if it is no sample."""
    rows = fed.rows
    if _exact(row, rows).any():
        return "a sample a second time"
    distance = (rows - row).norm(dim=1)
    near = rows[distance.argsort()[:NEAREST]]
    scaled = (rows @ row) / rows.square().sum(dim=1).clamp_min(1e-300)
    errors, scale = _mean_of(row, fed), float(scaled[distance.argmin()])
    # a mean of samples that fade into each other is nearly one of them, scaled
    if _exact(row, scaled[:, None] * rows, rows).any() and (errors is None or abs(scale - 1) > FADED):
        return f"a sample times {scale:.3g}"
    if errors is not None:
        if float((near[1] - near[0]).norm() / near[0].norm()) < SAME:
            return TWINS
        told = torch.linalg.matrix_rank(errors, rtol=1e-5) > 1
        return "a mixture of one pattern, though output errors differ" if told else "a mean of one pattern"
    for pair in combinations(near, 2):
        first, apart = pair[0], pair[1] - pair[0]
        part = (row - first) @ apart / apart.square().sum().clamp_min(1e-300)
        if _exact(row, (first + part * apart)[None], rows).any():
            alike = float(apart.norm() / first.norm())
            between = "between" if 0 <= part <= 1 else "beyond"
            return MERGED if alike < SAME and between == "between" else f"a mixture of two, {between} them"
    if len(rows) <= rows.shape[1] // 2 and _exact(row, (_affine(row, rows) @ rows)[None], rows).any():
        return "a mixture of several"
    decibel = float(metrics.compare(row[None], rows).psnr.max())
    return f"nothing known, {decibel:.0f} dB from a sample"


def _mean_of(row: Tensor, fed: Fed) -> Tensor | None:
    """∂L/∂z of the samples that activate the same units and of which a row is an affine combination, to 90 dB."""
    if not fed.relu:
        return None
    patterns, members = (fed.output_grads != 0).unique(dim=0, return_inverse=True)
    for pattern in range(len(patterns)):
        group = (members == pattern).nonzero()[:, 0]
        rows = fed.rows[group]
        if len(rows) > 1 and _exact(row, ((weights := _affine(row, rows)) @ rows)[None], fed.rows).any():
            return fed.output_grads[group[weights.abs() > PART]]
    return None


def _affine(row: Tensor, rows: Tensor) -> Tensor:
    """Weights, 1 in sum, of the affine combination of rows that is nearest to a row."""
    apart = (rows[1:] - rows[0]).T
    weights = torch.linalg.lstsq(apart, (row - rows[0])[:, None], driver="gelsd").solution[:, 0]
    return torch.cat([1 - weights.sum(0, keepdim=True), weights])


def _unpaired(found: Tensor, rows: Tensor) -> Tensor:
    """Which rows have no sample for themselves, to 90 dB, shape (k,)."""
    wrong = torch.ones(len(found), dtype=torch.bool)
    score = metrics.compare(*(_with_range(part, rows) for part in (found, rows)))
    wrong[score.order[score.exact]] = False
    return wrong


def _exact(row: Tensor, candidates: Tensor, rows: Tensor | None = None) -> Tensor:
    """Which candidates a row equals to 90 dB, in the range of the batch, shape (k,)."""
    rows = candidates if rows is None else rows
    span = float(rows.max() - rows.min()) or float(rows.abs().max()) or 1.0
    error = (candidates - row).square().mean(dim=1).sqrt()
    return error <= span * 10 ** (-metrics.EXACT_DB / 20)


def _with_range(part: Tensor, rows: Tensor) -> Tensor:
    """With a column of zeros where all entries of the batch are the same, so that it has a range at all."""
    return part if rows.max() > rows.min() else torch.nn.functional.pad(part, (0, 1))
