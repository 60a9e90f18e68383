"""Exercises of notebook 06, with the mistakes that people make in them."""

from typing import Any

import torch
from torch import Tensor

from spear_core.spear import low_rank
from spear_widgets.kit.compare import numbers
from spear_widgets.kit.exercise import Cases, Exercise, Mistake, OpenQuestion
from spear_widgets.kit.scene import scene


# ---------------------------------------------------------------- counting
def free_directions(M: Tensor, R2: Tensor, slope: Tensor) -> int:
    """Number of independent (dc, dp) with σ'(z) ∘ (M dc) = R₂ᵀ dp."""
    equations = torch.cat([slope[:, None] * M, -R2.T], dim=1)
    return equations.shape[1] - int(torch.linalg.matrix_rank(equations))


def _rank(M: Tensor, R2: Tensor, slope: Tensor) -> int:
    return int(torch.linalg.matrix_rank(torch.cat([slope[:, None] * M, -R2.T], dim=1)))


def _systems() -> Cases:
    for seed, (m, b, active) in enumerate(((20, 6, 12), (20, 13, 12), (30, 18, 20), (24, 8, 3))):
        generator = torch.Generator().manual_seed(seed)
        M = torch.randn(m, b, generator=generator, dtype=torch.float64)
        R2 = torch.randn(b, m, generator=generator, dtype=torch.float64)
        slope = torch.zeros(m, dtype=torch.float64)
        slope[torch.randperm(m, generator=generator)[:active]] = 1
        yield f"m = {m}, b = {b}, {active} active units", (M, R2, slope)


FREE_DIRECTIONS = Exercise(
    name="06/free_directions",
    level="warm-up",
    minutes=10,
    task="Write `free_directions(M, R2, slope)`: how many independent pairs $(dc, dp)$ solve $\\mathrm{slope} \\circ "
    "(M\\,dc) = R_2^\\top dp$? `M` is $(m, b)$, `R2` is $(b, m)$, `slope` is $\\sigma'(z)$, shape $(m,)$.",
    reference=free_directions,
    cases=_systems,
    mistakes=(
        Mistake(_rank, "That is the number of independent equations. What is left of the unknowns?"),
        Mistake(
            lambda M, R2, slope: len(M) - _rank(M, R2, slope),
            "That counts spare equations. Subtract the rank from the unknowns, $2b$.",
        ),
        Mistake(
            lambda M, R2, slope: free_directions(M, R2, torch.ones_like(slope)),
            "A silent unit passes on nothing: multiply row $j$ of $M$ by `slope[j]`.",
        ),
        Mistake(
            lambda M, R2, slope: M.shape[1] - int(torch.linalg.matrix_rank(slope[:, None] * M)),
            "The right-hand side has unknowns as well: the $b$ numbers in $dp$.",
        ),
    ),
    hints=(
        "Bring both sides together: one matrix times the vector of all unknowns is zero.",
        "The matrix is $[\\mathrm{slope} \\circ M, -R_2^\\top]$, with $m$ rows and $2b$ columns. Its null space is "
        "what is asked for.",
        "Columns minus `torch.linalg.matrix_rank` of that matrix, as an int.",
    ),
)


# ---------------------------------------------------------------- one sample, from the gradients alone
def one_sample(M: Tensor, beta: Tensor, R: Tensor, B: Tensor, starts: Tensor) -> Tensor:
    """A sample of the batch, shape (n,): 80 rounds from all starts, and the one whose y is nearest to the row space."""
    Phi = torch.linalg.qr(torch.column_stack([M, beta]))[0]
    u = starts / starts.norm(dim=0)
    for _ in range(80):
        h = torch.relu(Phi @ u)
        y = torch.relu(B @ (B.T @ h))
        u = u + 1.9 * Phi.T @ (y - h)
        u = u / u.norm(dim=0)
    h = torch.relu(Phi @ u)
    misfit = (h - B @ (B.T @ h)).norm(dim=0) / h.norm(dim=0)
    z = Phi @ u[:, misfit.argmin()]  # a positive multiple of M c + beta
    parts = torch.linalg.lstsq(torch.column_stack([M, beta]), z[:, None]).solution[:, 0]
    return parts[:-1] / parts[-1] @ R


def _walked(M: Tensor, beta: Tensor, B: Tensor, starts: Tensor, rounds: int = 80) -> tuple[Tensor, Tensor]:
    """z of every start after some rounds, up to its length, and the misfits."""
    Phi = torch.linalg.qr(torch.column_stack([M, beta]))[0]
    u = starts / starts.norm(dim=0)
    for _ in range(rounds):
        h = torch.relu(Phi @ u)
        y = torch.relu(B @ (B.T @ h))
        u = u + 1.9 * Phi.T @ (y - h)
        u = u / u.norm(dim=0)
    h = torch.relu(Phi @ u)
    return Phi @ u, (h - B @ (B.T @ h)).norm(dim=0) / h.norm(dim=0)


def _pictured(M: Tensor, beta: Tensor, R: Tensor, z: Tensor) -> Tensor:
    parts = torch.linalg.lstsq(torch.column_stack([M, beta]), z[:, None]).solution[:, 0]
    return parts[:-1] / parts[-1] @ R


def _any_start(M: Tensor, beta: Tensor, R: Tensor, B: Tensor, starts: Tensor) -> Tensor:
    return _pictured(M, beta, R, _walked(M, beta, B, starts)[0][:, 0])


def _no_walk(M: Tensor, beta: Tensor, R: Tensor, B: Tensor, starts: Tensor) -> Tensor:
    z, misfit = _walked(M, beta, B, starts, 0)
    return _pictured(M, beta, R, z[:, misfit.argmin()])


def _bias_is_forgotten(M: Tensor, beta: Tensor, R: Tensor, B: Tensor, starts: Tensor) -> Tensor:
    z, misfit = _walked(M, beta, B, starts)
    return torch.linalg.lstsq(M, z[:, misfit.argmin()][:, None]).solution[:, 0] @ R


def _any_length(M: Tensor, beta: Tensor, R: Tensor, B: Tensor, starts: Tensor) -> Tensor:
    z, misfit = _walked(M, beta, B, starts)
    both = torch.column_stack([M, beta])
    return torch.linalg.lstsq(both, z[:, misfit.argmin()][:, None]).solution[:-1, 0] @ R


def _preactivations(M: Tensor, beta: Tensor, R: Tensor, B: Tensor, starts: Tensor) -> Tensor:
    z, misfit = _walked(M, beta, B, starts)
    return z[:, misfit.argmin()]


SCENES = ((4, 100, 0), (6, 60, 0), (8, 100, 0))  # b, m, seed: the first start is not among those that arrive
LENGTH = (
    "It has the direction of a sample, and another length. $z$ is known up to a factor: where it is "
    "$M c + \\beta$, the share of $\\beta$ is one."
)
SHAPE = "A sample is wanted, a vector of as many numbers as $R$ has columns: $x = c R$."
MIXTURE = (
    "It is no sample of the batch. Some starts do not arrive: which of them did, the server reads from the misfit. "
    "And $z$ has two parts, $M c$ and $\\beta$."
)


def _server(b: int, m: int, seed: int) -> tuple[Tensor, ...]:
    """What `one_sample` is given: all of it is known to the server."""
    stage = scene("photos", b, m, seed)
    R = low_rank.split(stage.gradients["0.weight"]).rows
    R2 = low_rank.split(stage.gradients["2.weight"]).rows
    weight, beta = (parameter.detach().double() for parameter in stage.model[0].parameters())
    starts = torch.randn(b + 1, 20, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return weight @ R.T, beta, R, torch.linalg.qr(R2.T)[0], starts


def _servers() -> Cases:
    return [(f"{b} photographs, m = {m}", _server(b, m, seed)) for b, m, seed in SCENES]


def _of_the_batch(arguments: tuple[Any, ...], yours: Any) -> str:
    """What is wrong with a sample, compared with the batch that the client keeps."""
    b, m = arguments[0].shape[1], len(arguments[0])
    (seed,) = (seed for *sizes, seed in SCENES if sizes == [b, m])
    truth = scene("photos", b, m, seed).batch.inputs.double()
    x = numbers(yours).detach().double()
    if x.shape != truth[0].shape:
        return SHAPE
    if bool(((truth - x).norm(dim=1) < 1e-3 * truth.norm(dim=1)).any()):
        return ""
    cosine = torch.nn.functional.normalize(truth, dim=1) @ (x / x.norm())
    length = float(x.norm() / truth[int(cosine.abs().argmax())].norm())
    return LENGTH if float(cosine.abs().max()) > 1 - 1e-6 and abs(length - 1) > 0.01 else MIXTURE


ONE_SAMPLE = Exercise(
    name="06/one_sample",
    level="task",
    minutes=30,
    task="The loop above looks at the client's $z$ to see whether it has arrived. The server cannot. Write "
    "`one_sample(M, beta, R, B, starts)`: go 80 rounds from all `starts`, shape $(b+1, k)$, choose one that has "
    "arrived, and return its photograph, shape $(n,)$. `B` holds an orthonormal basis of $\\mathcal{Y}$, one vector a "
    "column; all else is as above. Any sample of the batch will do.",
    reference=one_sample,
    cases=_servers,
    mistakes=(
        Mistake(_any_start, MIXTURE),
        Mistake(_any_length, LENGTH),
        Mistake(_preactivations, SHAPE),
        Mistake(
            _bias_is_forgotten,
            "$z$ is a multiple of $M c + \\beta$, not of $M c$: solve for both parts, and compare with $\\beta$'s "
            "share.",
        ),
        Mistake(_no_walk, "That is one of the starts. Go 80 rounds first, as in the loop above."),
    ),
    hints=(
        "Three steps after the loop: choose a column of $u$, turn its $z$ into $c$, turn $c$ into $x$.",
        "The misfit of column $j$ is $\\lVert h - B B^\\top h \\rVert / \\lVert h \\rVert$ with $h = "
        "\\mathrm{relu}(\\Phi u_j)$; the least one has arrived. $z = \\Phi u_j$ is $M c + \\beta$ up to a positive "
        "factor.",
        "`torch.linalg.lstsq` with the columns $[M, \\beta]$ and right side $z$ gives $b$ numbers and a last one. "
        "Divide the "
        "$b$ numbers by the last one: that is $c$, and $x = c R$.",
    ),
    judge=_of_the_batch,
)

WITHOUT_ZEROS = OpenQuestion(
    "06/one_hidden_layer",
    "A client trains a network with *one* hidden layer of 400 units, GELU, and 10 classes, on batches of 24. What are "
    "the two shadows here, how many equations do they give, and would you call the batch safe? Which experiment would "
    "you run before you answer?",
    15,
    "The next layer is the output layer, so $\\partial L/\\partial W_2$ has 10 rows, which sum to zero under "
    "cross-entropy: "
    "its rank is at most 9, its row space cannot hold 24 vectors $y_i$, and the relation of this notebook does not "
    "exist. There are no zeros either, since GELU has "
    "none. So both searches of this course end here, which is no proof of safety: the gradients still hold 9 "
    "mixtures of "
    "the $y_i$ and 24 mixtures of the $x_i$, and another attack may use them, a guessing one to begin with. Run both, "
    "and a guessing attack, at $b = 4$, 9 and 24, and say *not broken by these*.",
)
