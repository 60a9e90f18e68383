"""Exercises of notebook 01, with the mistakes that people make in them."""

import torch
from torch import Tensor

from spear_widgets.kit.exercise import Cases, Exercise, Mistake, OpenQuestion
from spear_widgets.kit.scene import scene


# ---------------------------------------------------------------- in which shares does a row mix the samples?
def mixing(output_grads: Tensor) -> Tensor:
    """Share of each sample in row j of G, divided by entry j of g: shape (m, b), rows add up to one."""
    return output_grads / output_grads.sum(dim=1, keepdim=True)


def _columns() -> Cases:
    for b, m in ((2, 5), (4, 4), (6, 9)):
        generator = torch.Generator().manual_seed(b)
        yield f"b = {b}, m = {m}", (torch.randn(m, b, generator=generator, dtype=torch.float64) + 0.5,)


MIXING = Exercise(
    name="01/mixing",
    level="warm-up",
    minutes=5,
    task="Row $j$ of $G$, divided by entry $j$ of $g$, is a mixture of the photographs. Write "
    "`mixing(output_grads)`: from $\\partial L/\\partial Z$, shape (m, b), the shares of the mixtures, shape (m, "
    "b): one mixture a row.",
    reference=mixing,
    cases=_columns,
    mistakes=(
        Mistake(
            lambda output_grads: output_grads / output_grads.sum(dim=0),
            "That makes the *columns* add up to one. A mixture is a row, over the samples.",
        ),
        Mistake(
            lambda output_grads: output_grads.abs() / output_grads.abs().sum(dim=1, keepdim=True),
            "Shares may be negative: a photograph can be subtracted. g is the sum with its signs.",
        ),
        Mistake(
            lambda output_grads: output_grads.softmax(dim=1),
            "The shares are ratios of the entries themselves, not of their exponentials.",
        ),
    ),
    hints=(
        "$G_j = \\sum_i (\\partial L/\\partial z_i)_j\\, x_i$. And what is entry $j$ of $g$?",
        "$g_j = \\sum_i (\\partial L/\\partial z_i)_j$: the sum of row $j$ of `output_grads`.",
        "Divide each row by its sum: `output_grads.sum(dim=1, keepdim=True)`.",
    ),
)


# ---------------------------------------------------------------- which Q belongs to another split?
def other_split(factor, Q, other):  # type: ignore[no-untyped-def]  # shown as the solution
    """The right Q of another split of the same gradient, shape (b, b)."""
    output_grads = factor @ Q  # ∂L/∂Z is the client's, whatever the split
    return torch.linalg.lstsq(other, output_grads).solution


def _two_splits() -> Cases:
    for b, m in ((2, 6), (4, 30), (7, 20)):
        generator = torch.Generator().manual_seed(b)
        factor = torch.linalg.qr(torch.randn(m, b, generator=generator, dtype=torch.float64))[0]
        Q, A = (torch.randn(b, b, generator=generator, dtype=torch.float64) for _ in range(2))
        yield f"b = {b}, m = {m}", (factor, Q, factor @ A)
        yield f"b = {b}, m = {m}, columns of L in another order", (factor, Q, factor.flip(1))


OTHER_SPLIT = Exercise(
    name="01/other_split",
    level="task",
    minutes=10,
    task="Two servers split one gradient, $G = L R = L' R'$, each in its own way. The first one has been told the "
    "right $Q$ of its split. Write `other_split(factor, Q, other)`: the right $Q'$ of the second split, shape (b, b). "
    "`factor` is $L$ and `other` is $L'$, both of shape (m, b).",
    reference=other_split,
    cases=_two_splits,
    mistakes=(
        Mistake(
            lambda factor, Q, other: Q,
            "$Q$ belongs to its split. What is the same in both is $\\partial L/\\partial Z$, which is the client's.",
        ),
        Mistake(
            lambda factor, Q, other: factor @ Q,
            "That is $\\partial L/\\partial Z$, and the same for both servers. Now solve $L' Q' = "
            "\\partial L/\\partial Z$.",
        ),
        Mistake(
            lambda factor, Q, other: torch.linalg.lstsq(factor, other @ Q).solution,
            "That is the other way round: it is $L Q$ that is right, and $L' Q'$ must equal it.",
        ),
        Mistake(
            lambda factor, Q, other: other.T @ factor @ Q,
            "The transposed factor undoes $L'$ only where its columns are orthonormal. Solve by least squares.",
        ),
        Mistake(
            lambda factor, Q, other: torch.linalg.lstsq(other, factor).solution,
            "That leads from one factor to the other. The first server's $Q$ is missing.",
        ),
        Mistake(
            lambda factor, Q, other: torch.linalg.inv(other_split(factor, Q, other)),
            "That is $Q'^{-1}$, which makes the photographs from $R'$. Wanted is $Q'$.",
        ),
    ),
    hints=(
        "Which matrix do both servers look for, each in its own letters?",
        "$L Q = \\partial L/\\partial Z = L' Q'$. The left side is known.",
        "$m$ equations for each column of $Q'$, and exactly one solution: `torch.linalg.lstsq(other, factor @ Q)`.",
    ),
)


# ---------------------------------------------------------------- how many samples?
def count_samples(weight_grad):  # type: ignore[no-untyped-def]  # shown as the solution
    """The batch size behind a gradient of any precision; 0 where there is no cliff."""
    values = torch.linalg.svdvals(weight_grad.double())
    rounding = torch.finfo(weight_grad.dtype).eps * values[0] / len(values)  # nothing below is worth a ratio
    ratios = values[:-1] / values[1:].clamp(min=rounding)
    cliff = int(ratios.argmax())
    return cliff + 1 if ratios[cliff] > 20 else 0


def _relative(weight_grad: Tensor, limit: float) -> int:
    values = torch.linalg.svdvals(weight_grad.double())
    return int((values > limit * values[0]).sum())


def _largest_drop(weight_grad: Tensor) -> int:
    values = torch.linalg.svdvals(weight_grad.double())
    return int((values[:-1] - values[1:]).argmax()) + 1


def _any_ratio(weight_grad: Tensor) -> int:
    values = torch.linalg.svdvals(weight_grad.double())
    return int((values[:-1] / values[1:]).argmax()) + 1


def _gradients() -> Cases:
    four = scene("photos", 4, 80, 7)
    precise = (four.output_grads.double().T @ four.batch.inputs.double(),)
    five = scene("photos", 5, 100, 9)
    faint = (torch.tensor([1.0, 1.0, 1.0, 1.0, 0.01])[:, None] * five.output_grads).T @ five.batch.inputs
    return [
        ("6 photographs, width 60", (scene("photos", 6, 60, 6).layer.weight_grad,)),
        ("4 photographs, the loss scaled by 1/1000", (four.layer.weight_grad / 1000,)),
        ("6 photographs, the loss times a million", (1e6 * scene("photos", 6, 60, 6).layer.weight_grad,)),
        ("5 photographs, one of them with a hundredth of the error", (faint,)),
        ("4 photographs, in 64-bit numbers", precise),
        ("4 photographs, scaled and in 16-bit numbers", ((4096 * four.layer.weight_grad).half(),)),
        ("1 photograph, width 50", (scene("photos", 1, 50, 8).layer.weight_grad,)),
        ("4 photographs, but a layer of width 3", (scene("photos", 4, 3, 0).layer.weight_grad,)),
    ]


COUNT_SAMPLES = Exercise(
    name="01/count_samples",
    level="task",
    minutes=20,
    task="Write `count_samples(weight_grad)`: how many samples are in the batch behind this gradient? Clients "
    "compute in 16, 32 or 64 bits, and scale their losses as they like. Return 0 where the gradient does not "
    "tell, because there is no cliff.",
    reference=count_samples,
    cases=_gradients,
    mistakes=(
        Mistake(
            lambda weight_grad: _relative(weight_grad, 0.0),
            "Rounding keeps every singular value above zero, so all of them are counted. Compare them with each other.",
        ),
        Mistake(
            lambda weight_grad: int((torch.linalg.svdvals(weight_grad.double()) > 1e-3).sum()),
            "A fixed threshold depends on the scale of the loss. Only ratios of singular values do not.",
        ),
        Mistake(
            lambda weight_grad: int((weight_grad.abs().sum(dim=1) > 0).sum()),
            "That is how many units are active for some sample.",
        ),
        Mistake(
            lambda weight_grad: _relative(weight_grad, 1e-6),
            "One millionth of the largest value is right for 32 bits. In 16-bit numbers, rounding lies above it: "
            "look for the cliff itself.",
        ),
        Mistake(
            lambda weight_grad: count_samples(weight_grad) or len(weight_grad),
            "Where all singular values are of ordinary size there is no cliff, and the batch may be larger than the "
            "layer: return 0.",
        ),
        Mistake(
            _any_ratio,
            "Units that are silent for all samples leave values far below rounding, and the ratios there are larger "
            "than the cliff. Clamp what is below rounding.",
        ),
        Mistake(
            _largest_drop,
            "The largest *difference* is between the largest values. A cliff is a large *ratio* of two neighbours.",
        ),
        Mistake(
            lambda weight_grad: int(torch.linalg.matrix_rank(weight_grad.double())),
            "In 64 bits, `matrix_rank` takes the rounding of 32-bit numbers for rank: its tolerance follows the dtype "
            "of what it gets.",
        ),
        Mistake(
            lambda weight_grad: _relative(weight_grad, 1e-2),
            "A hundredth of the largest value is a sample, too: one that the network already knows well.",
        ),
        Mistake(
            lambda weight_grad: weight_grad.shape[1],
            "The number of columns is n, the size of one sample. The batch size is the rank.",
        ),
        Mistake(
            lambda weight_grad: len(weight_grad),
            "The number of rows is the width m of the layer. The batch size is the rank.",
        ),
    ),
    hints=(
        "The singular values fall off a cliff after the last sample. How do you recognise a cliff without knowing "
        "how deep it is?",
        "Divide each of `torch.linalg.svdvals(weight_grad.double())` by the next one. Within the batch and within the "
        "rounding the ratios are small.",
        "The cliff is at the largest ratio; where even that is below 20 there is none. First clamp the values from "
        "below, at torch.finfo(weight_grad.dtype).eps * values[0] / len(values).",
    ),
)


SUMMED = OpenQuestion(
    name="01/summed",
    minutes=10,
    text="Ten clients with four photographs each send their gradients through *secure aggregation*: the server sees "
    "the sum of the ten and no single one. The attacked layer has 200 units. What does the rank of the sum tell, "
    "and what does it no longer tell? What changes if the layer has 30 units?",
    model_answer="A sum of ten products is one product with the forty samples as $X$, so its rank is 40: the server "
    "still counts all samples, and whatever inverts a batch of 40 inverts the sum. It no longer learns which sample "
    "came from which client. With 30 units the rank cannot exceed 30: there is no cliff, and the split leaves more "
    "open than a $Q$.",
)
