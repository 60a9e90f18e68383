"""The bound: how many numbers about its inputs can have entered a gradient, whoever attacks it.

The dual of a certificate. Let everything that the network makes of an input pass through one of its values, d numbers
of each sample. All later layers see of the batch is these b d numbers, so that the gradient is a function of them, and
of the gradients of the parameters that stand before, P numbers of the whole batch. Its derivative by the inputs has a
rank of b d + P at most; that is a *cut*. Where it is less than the b n unknowns, almost every batch lies on a surface
of batches that give the very same gradient (constant rank theorem), and who knows nothing else cannot tell them apart.

It holds for one gradient, of a loss that takes the network's output, and nothing else of its input.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import prod

import torch
from torch import Tensor, nn

from spear_core.front.part import Front, bottlenecks
from spear_core.front.proof import GAP, MOST, jacobian
from spear_core.model.graph import Traced
from spear_core.model.parameters import strip
from spear_core.model.section import Section, section_between


class Exactness(StrEnum):
    """What the numbers say of the network's own inputs."""

    CAN = "can be exact"  # the features determine them, at a random input
    CANNOT = "cannot be exact"  # fewer numbers pass than they have
    UNKNOWN = "not known"  # neither


@dataclass(frozen=True)
class Cut:
    """A value that everything passes through, or the whole gradient, of which each entry is one number.

    Attributes:
        name: of the call that gives it, as in the traced graph.
        numbers: of one sample.
        before: entries of the gradients of parameters that stand before it, for the whole batch.
    """

    name: str
    numbers: int
    before: int

    def most(self, b: int) -> int:
        """Numbers about b samples that pass at most."""
        return b * self.numbers + self.before

    def __str__(self) -> str:
        return (
            f"{self.numbers:,} of each sample through {self.name!r}, {self.before:,} in gradients before it"
        )


@dataclass(frozen=True)
class Bound:
    """How many numbers about b inputs can have entered the gradient, and whether that is enough.

    Attributes:
        batch_size: b.
        unknowns: numbers of one input.
        cuts: all that were found, in forward order, the whole gradient last.
        passed: the fewest numbers of one sample that pass on the way to the attacked layer, its inputs included.
        rank: of the derivative of that layer's inputs by a random input; None where it was not asked for.
    """

    batch_size: int
    unknowns: int
    cuts: tuple[Cut, ...]
    passed: int
    rank: int | None = None

    @property
    def narrowest(self) -> Cut:
        """The cut that lets the fewest numbers about the batch through."""
        return min(self.cuts, key=lambda cut: cut.most(self.batch_size))

    @property
    def numbers(self) -> int:
        """About the batch, at most."""
        return self.narrowest.most(self.batch_size)

    @property
    def impossible_from(self) -> int | None:
        """The least batch size at which too few numbers pass; None where the cuts are wide enough for any."""
        narrow = [cut for cut in self.cuts if cut.numbers < self.unknowns]
        return min((cut.before // (self.unknowns - cut.numbers) + 1 for cut in narrow), default=None)

    @property
    def exactness(self) -> Exactness:
        """What follows for the network's own inputs."""
        if self.numbers < self.batch_size * self.unknowns:
            return Exactness.CANNOT
        return Exactness.CAN if self.rank == self.unknowns else Exactness.UNKNOWN

    def __str__(self) -> str:
        b, n = self.batch_size, self.unknowns
        wanted = f"{b:,} × {n:,} numbers" if b > 1 else f"{n:,} numbers"
        if self.exactness is Exactness.CANNOT:
            why = (
                f"of their {wanted}, at most {self.numbers:,} can have entered the gradient: {self.narrowest}"
            )
        elif self.exactness is Exactness.CAN:
            why = f"the attacked layer's inputs determine the {wanted}, as the rank at a random input says"
        elif self.rank is None:
            why = (
                f"at most {self.passed:,} numbers of a sample reach the attacked layer, for {n:,} of an input"
            )
        else:
            why = f"of the {n:,} numbers of a random input, {self.rank:,} clearly reach the attacked layer"
        if self.impossible_from and self.exactness is not Exactness.CANNOT:
            why += f"; from b = {self.impossible_from:,} on they cannot be exact"
        unknown = self.exactness is Exactness.UNKNOWN
        what = (
            "not known whether network inputs can be exact" if unknown else f"network inputs {self.exactness}"
        )
        return f"{what}: {why}"


def bound(
    traced: Traced, front: Front, sent: Mapping[str, Tensor | None], batch_size: int, *, look: bool = True
) -> Bound | None:
    """The bound for the inputs of a network, and with `look` the rank of the features' derivative at a random one.

    Args:
        traced: the model.
        front: what stands before the attacked layer.
        sent: gradients by name; what was not sent does not count.
        batch_size: b.
        look: costs the Jacobian of one input, of `MOST` numbers at most.

    Returns:
        None where the output depends on several inputs, or the model takes no other number of samples than it was sent.
    """
    output = next(node for node in traced.graph.nodes if node.op == "output")
    network = section_between(traced, front.section.start, output)
    if network is None:
        return None
    sizes = {name: 0 if grad is None else grad.numel() for name, grad in sent.items()}
    whole = Cut("the gradient as a whole", 0, sum(sizes.values()) + _statistics(network))
    device = next((p.device for p in traced.root.parameters()), None)
    trial = torch.rand(3, *front.shape, generator=torch.Generator().manual_seed(0)).to(device)
    try:
        cuts = _cuts(network, trial, sizes)
    except Exception:  # calls may raise anything
        return None
    n = prod(front.shape)
    rank = _rank(front, trial[0]) if look and n <= MOST and not front.obstacle else None
    passed = min(part.features(trial[:2]).numel() // 2 for part in (*front.bottlenecks, front))
    return Bound(batch_size, n, (*cuts, whole), min(n, passed), rank)


def _cuts(network: Section, trial: Tensor, sizes: Mapping[str, int]) -> list[Cut]:
    """Values that everything passes through, with what the gradients of parameters before each may add."""
    found = bottlenecks(network)
    until = network.up_to(tuple(found))
    values = [until.run(trial[:count], trial.dtype) for count in (2, 3)]
    cuts = []
    for (end, part), two, three in zip(found.items(), *values):
        if not isinstance(two, Tensor) or 3 * two.numel() != 2 * three.numel():
            continue  # not a number of numbers for each sample
        before = sum(sizes.get(strip(name), 0) for name in part.taken())
        cuts.append(Cut(str(end), two.numel() // 2, before + _statistics(part)))
    return cuts


def _statistics(part: Section) -> int:
    """Means and variances that BatchNorms in training mode take from the batch, and may send along."""
    modules = {part.root.get_submodule(str(node.target)) for node in part.nodes if node.op == "call_module"}
    norms = [m for m in modules if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    return sum(2 * norm.num_features for norm in norms)


def _rank(front: Front, x: Tensor) -> int:
    """Of the derivative of the features at one input, by singular values that float32 tells from zero."""
    values = torch.linalg.eigvalsh((J := jacobian(front, x)) @ J.T)
    return int((values > GAP**2 * values[-1]).sum())
