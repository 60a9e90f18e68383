"""Exercises of notebook 02, with the mistakes that people make in them."""

import torch
from torch import Tensor

from spear_widgets.kit.compare import numbers
from spear_widgets.kit.exercise import Cases, Exercise, Mistake, OpenQuestion
from spear_widgets.kit.scene import scene
from spear_widgets.kit.twins import client_with


# ---------------------------------------------------------------- who shares zeros with whom?
def shared_zeros(output_grads: Tensor) -> Tensor:
    """Share of the units that are silent for samples i and k at once, shape (b, b)."""
    zero = (output_grads == 0).double()
    return zero @ zero.T / zero.shape[1]


def _batches() -> Cases:
    return [
        ("three photographs", (scene("photos", 3, 80).output_grads,)),
        ("four, two of them nearly equal", (client_with("photos", 4, 100, 3, "near").output_grads,)),
        ("two samples, four units", (torch.tensor([[0.0, 0.0, 1.0, 2.0], [0.0, 3.0, -1.0, 0.0]]),)),
    ]


def _zeros(output_grads: Tensor) -> Tensor:
    return (output_grads == 0).double()


SHARED_ZEROS = Exercise(
    name="02/shared_zeros",
    level="warm-up",
    minutes=8,
    task="Write `shared_zeros(output_grads)`: from $(\\partial L/\\partial Z)^\\top$, shape (b, m), one sample a "
    "row, the matrix, shape (b, b), whose entry (i, k) is the share of the m units that are silent for sample i "
    "*and* for sample k.",
    reference=shared_zeros,
    cases=_batches,
    mistakes=(
        Mistake(
            lambda output_grads: _zeros(output_grads) @ _zeros(output_grads).T,
            "Those are numbers of units. Divide by m to get shares.",
        ),
        Mistake(
            lambda output_grads: (
                (_zeros(output_grads)[:, None] == _zeros(output_grads)[None]).double().mean(dim=2)
            ),
            "That also counts the units that are active for both. Asked are those that are silent for both.",
        ),
        Mistake(
            lambda output_grads: torch.outer(
                _zeros(output_grads).mean(dim=1), _zeros(output_grads).mean(dim=1)
            ),
            "That would be the share if the samples had nothing to do with each other. Count the units.",
        ),
        Mistake(
            lambda output_grads: _zeros(output_grads).T @ _zeros(output_grads) / len(output_grads),
            "That compares units over the samples, shape (m, m). Compare samples over the units.",
        ),
    ),
    hints=(
        "Make a table of zeros first: 1 where an entry is zero, 0 elsewhere.",
        "The product of two such numbers is 1 where both are: a matrix product counts them.",
        "`zero = (output_grads == 0).double()`; then `zero @ zero.T`, divided by the number of units.",
    ),
)


# ---------------------------------------------------------------- a batch of two, solved
def two_directions(factor):  # type: ignore[no-untyped-def]  # shown as the solution
    """The directions of both samples as unit columns, shape (2, 2): on these most entries of L q vanish."""
    sizes = factor.norm(dim=1)
    live = factor[sizes > 1e-6 * sizes.max()]  # a unit that is silent for both says nothing
    candidates = torch.stack([-live[:, 1], live[:, 0]])  # column k is orthogonal to row k
    candidates = candidates / candidates.norm(dim=0)
    entries = (live @ candidates).abs()
    zeros = (entries < 1e-5 * entries.max()).sum(dim=0)
    first = candidates[:, zeros.argmax()]
    elsewhere = (first @ candidates).abs() < 1 - 1e-6
    second = candidates[:, (zeros * elsewhere).argmax()]
    return torch.stack([first, second], dim=1)


def _ranked(factor: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates as columns, and their zeros."""
    sizes = factor.norm(dim=1)
    live = factor[sizes > 1e-6 * sizes.max()]
    candidates = torch.nn.functional.normalize(torch.stack([-live[:, 1], live[:, 0]]), dim=0)
    entries = (live @ candidates).abs()
    return candidates, (entries < 1e-5 * entries.max()).sum(dim=0)


def _same_twice(factor: Tensor) -> Tensor:
    candidates, zeros = _ranked(factor)
    return candidates[:, zeros.topk(2).indices]


def _rows_themselves(factor: Tensor) -> Tensor:
    found: Tensor = two_directions(factor)
    return torch.stack([-found[1], found[0]])


def _not_to_rounding(factor: Tensor) -> Tensor:
    sizes = factor.norm(dim=1)
    live = factor[sizes > 1e-6 * sizes.max()]
    candidates = torch.nn.functional.normalize(torch.stack([-live[:, 1], live[:, 0]]), dim=0)
    zeros = ((live @ candidates) == 0).sum(dim=0)
    first = candidates[:, zeros.argmax()]
    elsewhere = (first @ candidates).abs() < 1 - 1e-6
    return torch.stack([first, candidates[:, (zeros * elsewhere).argmax()]], dim=1)


def _same_lines(wanted: Tensor, yours: Tensor) -> bool:
    """The same two lines: their order and signs are free, and a unit row's rounding is allowed."""
    yours = numbers(yours).to(wanted)
    if yours.shape != wanted.shape or bool(((yours.norm(dim=0) - 1).abs() > 1e-4).any()):
        return False
    alike = (wanted.T @ yours).abs()
    return bool((alike.max(dim=0).values > 1 - 1e-6).all() and (alike.max(dim=1).values > 1 - 1e-6).all())


def _pairs() -> Cases:
    for name, width, seed in (("photos", 60, 3), ("digits", 100, 1), ("photos", 200, 5)):
        yield f"two {name}, width {width}", (scene(name, 2, width, seed).low_rank.factor,)


TWO_DIRECTIONS = Exercise(
    name="02/two_directions",
    level="task",
    minutes=25,
    task="Solve a batch of two without chance and without the client. Write `two_directions(factor)`: from $L$, "
    "shape (m, 2), the two columns of $Q$ up to length, as unit columns of a 2 × 2 matrix, in any order and with "
    "any sign.",
    reference=two_directions,
    cases=_pairs,
    agree=_same_lines,
    mistakes=(
        Mistake(
            _same_twice,
            "Both columns are one direction: many rows propose it. Leave out what is parallel to the first one.",
        ),
        Mistake(
            _rows_themselves,
            "Those are the directions of the rows in the two bundles. The q that makes a row zero is orthogonal to it.",
        ),
        Mistake(
            _not_to_rounding,
            "After a division hardly an entry is exactly 0.0. Count those that are tiny beside the largest.",
        ),
        Mistake(
            lambda factor: torch.eye(2, dtype=factor.dtype),
            "Those are the axes of the split, which depend on nothing but the singular value decomposition.",
        ),
    ),
    hints=(
        "A direction of a sample makes some row of L zero. How many candidates does that leave, and how do you try "
        "them all?",
        "Row $(u, v)$ is zero on $(-v, u)$. Make a candidate of every row that is not zero itself, and count the "
        "zeros of `live @ candidates`.",
        "The candidate with most zeros is one sample. Take the other among those whose product with it is below "
        "`1 - 1e-6` in magnitude.",
    ),
)


LEAKY = OpenQuestion(
    name="02/leaky",
    minutes=10,
    text='A client replaces ReLU by LeakyReLU, with slope 0.01 where $z \\le 0$, "so that no gradient is zero". '
    "What becomes of the zeros of $L q$? Is anything left by which the right $q$ stands out? What has *not* changed?",
    model_answer="The zeros are gone: where a unit is silent, the entry is a hundredth of what it would be, and not "
    "0. A mark is left, a weaker one: half of the entries of the right $L q$ are a hundred times smaller than they "
    "would be, which noise or a spread of sizes can hide. The split has not changed: $G$ still has rank $b$, and "
    "exactly one $Q$ gives the batch. Zeros are one way to find it, not the only one.",
)
