"""Where an attack stands: the immutable states that every search yields and every widget steps through."""

from dataclasses import dataclass, field

from torch import Tensor

from spear_core.certificate.certify import Certificate
from spear_core.spear.low_rank import LowRank
from spear_core.spear.reconstruction import Reconstruction
from spear_core.spear.sparsity import Pool


@dataclass(frozen=True)
class State:
    """One moment of an attack. Later states hold all that earlier ones found.

    Attributes:
        step: "low rank", "consistency", "halfspace", "sampling", "selection" or "certificate".
        low_rank: step 1, the split of the gradient.
        pool: steps 2 and 3, the directions that passed the filter.
        samples_drawn: candidates tested so far.
        chosen: step 4, positions in the pool.
        reconstruction: step 5, the batch that the chosen directions give.
        certificate: what could be proven about it.
        seconds: time by step.
        method: how the directions were found.
        notes: why the search stopped early, in words.
        batch_size: b; the rank of the split, unless a later layer tells of more samples than inputs.
        walkers: search points of the consistency method, z as columns, shape (m, K); else None.
    """

    step: str
    low_rank: LowRank
    pool: Pool
    samples_drawn: int = 0
    chosen: tuple[int, ...] = ()
    reconstruction: Reconstruction | None = None
    certificate: Certificate | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    method: str = "sampling"
    notes: tuple[str, ...] = ()
    batch_size: int = 0
    walkers: Tensor | None = None

    def __post_init__(self) -> None:
        """B is the rank of the split unless said otherwise."""
        if not self.batch_size:
            object.__setattr__(self, "batch_size", self.low_rank.batch_size)

    @property
    def sparsity_match(self) -> float:
        """λ of the best batch so far, 0 before there is one."""
        return 0.0 if self.reconstruction is None else self.reconstruction.sparsity_match

    @property
    def proven(self) -> int:
        """How many samples are proven exact."""
        return 0 if self.certificate is None else int(self.certificate.certified_rows.sum())

    @property
    def certified(self) -> bool:
        """Whether all b samples are proven exact."""
        certificate = self.certificate
        return certificate is not None and certificate.complete and bool(certificate.certified_rows.all())
