"""What a certificate says, and how far. The records alone: how they come about is in `certify` and `replay`.

A complete batch has four parts, each of which a wrong one would fail (`Part`). And rounding must not have been
amplified beyond what "exact" allows: near-duplicates can be found and still be blurred. What is proven then of a row is
one of two things (`Claim`), and only the stronger one is called certified. docs/certificate.md has the theorem.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

import torch
from torch import Tensor

from spear_core.tolerances import ALLOWED_ERROR


class Part(StrEnum):
    """What must hold of a complete batch."""

    GRADIENT = "gradient reproduced"
    ZEROS = "zeros agree (λ = 1)"
    UNIQUE = "samples unique"
    REPLAY = "client replayed"


class Claim(StrEnum):
    """What is proven of a row."""

    SAMPLE = "one sample"
    MEAN = "a sample, or a weighted mean of several that no gradient of this kind tells apart"
    SHIFTED = "one sample less a vector that is the same for all rows, which the layer does not see"
    NOTHING = "nothing"


@dataclass(frozen=True)
class OutputErrors:
    """The errors that enter back-propagation, δ_i = ∂L/∂(output of sample i), and what they tell.

    Attributes:
        values: δ, shape (b, classes).
        labels: class of each sample where the loss is cross-entropy, shape (b,), −1 where δ is of no single label, as
            of a sample that is in the batch twice with different ones; else None.
        named: where δ is that of cross-entropy itself, up to one factor for the whole batch, shape (b,); elsewhere it
            is fitted, and back-propagation says nothing that the gradients do not.
        plural: which rows may stand for several samples of one label, shape (b,).
        explained: where δ has the direction of cross-entropy, or is that of copies with a label each, shape (b,).
        single: where it also has the weight of one sample, shape (b,).
        uneven: whether cross-entropy explains each sample with a factor of its own only.
        copies: labels of all copies of a sample that is in the batch several times with different ones, by row.
    """

    values: Tensor
    labels: Tensor | None
    named: Tensor
    plural: Tensor
    explained: Tensor
    single: Tensor
    uneven: bool = False
    copies: dict[int, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Replay:
    """What the network would have sent for a batch.

    Attributes:
        loss: the errors of the output that it was played with, and the labels that they name.
        output_grads: ∂L/∂z of the attacked layer as back-propagation gives it, shape (b, m).
        fewest: active units of each sample in the layer where there are fewest, the output aside, shape (b,).
        residual: distance of the replayed gradients from the observed ones, relative, of the worst layer
            after the attacked one.
        only: asks how firmly back-propagation through its activation patterns holds each direction, as the sine of the
            angle to the next one that they allow, 0 where that proves nothing, shape (b,); dear, so it is only asked
            where zeros do not tell.
    """

    loss: OutputErrors
    output_grads: Tensor
    fewest: Tensor
    residual: float
    only: Callable[[], Tensor]


@dataclass(frozen=True)
class Certificate:
    """What was checked, and what came out. What was not checked is None, and proves nothing.

    Attributes:
        batch_size: b; the batch is complete if it has so many rows.
        output_grads: (∂L/∂Z)ᵀ, shape (k, m).
        expected_error: what rounding may have done to each row, relative to the largest input, shape (k,).
        limit: relative residual up to which a gradient counts as reproduced to rounding.
        gradient_residual: of the attacked layer's gradient, relative.
        agreeing_rows: whether all units of a sample agree with the forward pass, shape (k,); None where zeros say
            nothing.
        unique_rows: whether nothing but this sample fits its equations, shape (k,); None where that was not asked.
        independent_rows: whether a sample is proven on its own, by the next layer's row space, shape (k,).
        single_rows: whether a row, if it is proven, is one sample and no mean of several, shape (k,).
        scale_confirmed: whether a later layer or the loss would object to another scale of the inputs; None where
            no later layer is known.
        replay_residual: relative; None where the client could not be replayed.
        labels: class of each sample, −1 where no single one explains it, or None; as `uneven` and `copies` in
            `OutputErrors`.
        plural_rows: which rows may stand for several samples, and lie between them, shape (k,).
    """

    batch_size: int
    output_grads: Tensor
    expected_error: Tensor
    limit: float
    gradient_residual: float
    agreeing_rows: Tensor | None = None
    unique_rows: Tensor | None = None
    independent_rows: Tensor | None = None
    single_rows: Tensor | None = None
    scale_confirmed: bool | None = True
    replay_residual: float | None = None
    labels: Tensor | None = None
    plural_rows: Tensor | None = None
    uneven: bool = False
    copies: dict[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all b samples are there."""
        return len(self.expected_error) == self.batch_size

    @property
    def sharp_rows(self) -> Tensor:
        """Whether rounding was not amplified beyond what "exact" allows, shape (k,)."""
        return self.expected_error <= ALLOWED_ERROR

    @property
    def parts(self) -> dict[Part, bool | None]:
        """The parts: True, False, or None where one could not be checked."""
        agree, unique, replayed = self.agreeing_rows, self.unique_rows, self.replay_residual
        return {
            Part.GRADIENT: self.complete and self.gradient_residual <= self.limit,
            Part.ZEROS: None if agree is None else self.complete and bool(agree.all()),
            Part.UNIQUE: None if unique is None else self.complete and bool(unique.all()),
            Part.REPLAY: None if replayed is None else replayed <= self.limit,
        }

    @property
    def reproduces(self) -> bool:
        """Whether the batch gives the gradients of all layers, so that no other method could find another one."""
        return all(self.parts[part] is True for part in (Part.GRADIENT, Part.REPLAY))

    @property
    def certified_rows(self) -> Tensor:
        """Which rows are proven to be one sample each, shape (k,)."""
        single = torch.zeros_like(self.sharp_rows) if self.single_rows is None else self.single_rows
        return self.proven_rows & single

    @property
    def claims(self) -> tuple[Claim, ...]:
        """What is proven of each row."""
        which = self.proven_rows.to(torch.int64) + self.certified_rows
        return tuple((Claim.NOTHING, Claim.MEAN, Claim.SAMPLE)[i] for i in which.tolist())

    @property
    def proven_rows(self) -> Tensor:
        """Which rows are a sample, or a mean that no gradient tells from one, shape (k,).

        Rows of a complete batch share one matrix Q, so one wrong direction voids all. Of an incomplete one, or where
        some directions are not unique, those count that are proven on their own.
        """
        nobody = torch.zeros_like(self.sharp_rows)
        if self.unique_rows is None or self.scale_confirmed is False:
            return nobody
        own = nobody if self.independent_rows is None else self.independent_rows
        alone = own & self.unique_rows & self.sharp_rows
        if not self.complete:
            return alone
        failed = {part for part, holds in self.parts.items() if holds is False}
        rows = alone if failed == {Part.UNIQUE} else torch.full_like(alone, not failed)
        return rows & self.sharp_rows & ~(nobody if self.plural_rows is None else self.plural_rows)
