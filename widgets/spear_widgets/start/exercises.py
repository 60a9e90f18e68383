"""Exercises of notebook 00, with the mistakes that people make in them."""

import torch
from torch import Tensor, nn

import spear_core
from spear_widgets.kit.exercise import Cases, Exercise, Mistake, OpenQuestion
from spear_widgets.kit.scene import Scene, scene
from spear_widgets.kit.twins import client_with


# ---------------------------------------------------------------- which photograph is it?
def whose(recovered: Tensor, private: Tensor) -> Tensor:
    """For each recovered row the number of the private sample that is nearest."""
    return torch.cdist(recovered, private).argmin(dim=1)


def _shuffled() -> Cases:
    for b, n, seed in ((5, 12, 0), (8, 30, 1)):
        generator = torch.Generator().manual_seed(seed)
        private = torch.randn(b, n, generator=generator)
        order = torch.arange(b).roll(2)
        rounding = 1e-5 * torch.randn(b, n, generator=generator)
        yield f"{b} samples of {n} numbers, in another order", (private[order] + rounding, private)
    yield "three rows came back of five", (private[[3, 0, 4]], private[:5])


WHOSE = Exercise(
    name="00/whose",
    level="warm-up",
    minutes=5,
    task="The rows come back in an order of their own, and off by rounding. Write `whose(recovered, private)`: for "
    "each row of `recovered`, shape (k, n), the number, from 0, of the row of `private`, shape (b, n), that it is.",
    reference=whose,
    cases=_shuffled,
    mistakes=(
        Mistake(
            lambda recovered, private: torch.cdist(recovered, private).argmin(dim=0),
            "That says for each private sample which row came back for it. Asked is the other way round.",
        ),
        Mistake(
            lambda recovered, private: torch.cdist(recovered, private).argmax(dim=1),
            "That is the private sample which the row resembles least.",
        ),
        Mistake(
            lambda recovered, private: torch.cdist(recovered, private).min(dim=1).values,
            "Those are the distances. Return the positions at which they are smallest.",
        ),
    ),
    hints=(
        "Which of the private samples is nearest to a row?",
        "`torch.cdist(a, b)` holds the distance of every row of a from every row of b.",
        "Take `argmin` along the dimension of the private samples.",
    ),
)


# ---------------------------------------------------------------- was this photograph in the batch?
def members(model, gradients, batch_size, candidates):  # type: ignore[no-untyped-def]  # shown as the solution
    """For each candidate: True if proven to be in the batch, False if proven not to be, None if neither."""
    result = spear_core.invert(
        model, gradients, batch_size=batch_size, method="sampling", max_samples=500,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    proven = result.inputs[result.certified_rows]
    answers = []
    for candidate in candidates:
        there = bool(((proven - candidate).abs() < 1e-3).all(dim=1).any())
        answers.append(True if there else False if result.certified else None)
    return answers


def _attacked(model: nn.Module, gradients: dict[str, Tensor], batch_size: int) -> spear_core.Inversion:
    return spear_core.invert(
        model, gradients, batch_size=batch_size, method="sampling", max_samples=500,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip


def _near(rows: Tensor, candidate: Tensor, limit: float) -> bool:
    return bool(((rows - candidate).abs() <= limit).all(dim=1).any())


def _whoever_came_back(
    model: nn.Module, gradients: dict[str, Tensor], batch_size: int, candidates: Tensor
) -> list[bool | None]:
    result = _attacked(model, gradients, batch_size)
    return [
        True if _near(result.inputs, one, 1e-3) else False if result.certified else None for one in candidates
    ]


def _yes_or_no(
    model: nn.Module, gradients: dict[str, Tensor], batch_size: int, candidates: Tensor
) -> list[bool]:
    result = _attacked(model, gradients, batch_size)
    return [_near(result.inputs[result.certified_rows], one, 1e-3) for one in candidates]


def _every_row(
    model: nn.Module, gradients: dict[str, Tensor], batch_size: int, candidates: Tensor
) -> list[bool]:
    result = _attacked(model, gradients, batch_size)
    return [_near(result.inputs, one, 1e-3) for one in candidates]


def _all_or_nothing(
    model: nn.Module, gradients: dict[str, Tensor], batch_size: int, candidates: Tensor
) -> list[bool | None]:
    result = _attacked(model, gradients, batch_size)
    return [_near(result.inputs, one, 1e-3) if result.certified else None for one in candidates]


def _never_no(
    model: nn.Module, gradients: dict[str, Tensor], batch_size: int, candidates: Tensor
) -> list[bool | None]:
    result = _attacked(model, gradients, batch_size)
    proven = result.inputs[result.certified_rows]
    return [_near(proven, one, 1e-3) or None for one in candidates]


def _to_the_last_bit(
    model: nn.Module, gradients: dict[str, Tensor], batch_size: int, candidates: Tensor
) -> list[bool | None]:
    result = _attacked(model, gradients, batch_size)
    return [
        True if _near(result.inputs, one, 0.0) else False if result.certified else None for one in candidates
    ]


def _clients() -> Cases:
    plain, twins = scene("photos", 4), client_with("photos", 4, 200, 3, "same")
    strangers = scene("photos", 4, seed=8).batch.inputs
    generator = torch.Generator().manual_seed(0)
    noise = {
        name: 0.01 * g.std() * torch.randn(g.shape, generator=generator)
        for name, g in plain.gradients.items()
    }
    noisy = {name: g + noise[name] for name, g in plain.gradients.items()}
    yield "a plain client", _asked(plain, plain.gradients, strangers)
    yield "a client with two photographs that are nearly one", _asked(twins, twins.gradients, strangers)
    yield "a client that adds 1 % of noise", _asked(plain, noisy, strangers)


def _asked(stage: Scene, gradients: dict[str, Tensor], strangers: Tensor) -> tuple[object, ...]:
    candidates = torch.cat([stage.batch.inputs[[2, 0]], strangers[:1], stage.batch.inputs[1:2]])
    return stage.model, gradients, stage.batch_size, candidates


MEMBERS = Exercise(
    name="00/members",
    level="task",
    minutes=20,
    task="A hospital asks: were these photographs in the batch? Write `members(model, gradients, batch_size, "
    "candidates)`. "
    'Attack with `spear_core.invert(…, batch_size=batch_size, method="sampling", max_samples=500)`, and return a list '
    "with one entry for each row of `candidates`, shape (k, n): `True` if it is proven to have been in the batch, "
    "`False` if it is proven not to have been, `None` if the attack proves neither.",
    reference=members,
    cases=_clients,
    seconds=60,
    mistakes=(
        Mistake(
            _whoever_came_back,
            "A row that came back and is not certified proves nothing, however well it matches. "
            "Look at `certified_rows` first.",
        ),
        Mistake(
            _every_row,
            "You look at all rows, certified or not, and say no where the attack does not know. `certified_rows` "
            "supports a yes, `certified` a no; else the answer is `None`.",
        ),
        Mistake(
            _all_or_nothing,
            "A single row may be certified where the whole batch is not. For a yes, `certified_rows` is enough.",
        ),
        Mistake(
            _never_no,
            "Where the whole batch is certified, all of its samples are known, and whoever is not among them was not "
            "there: `False`.",
        ),
        Mistake(
            _yes_or_no,
            "Not found is not the same as not there. Only where the whole batch is certified (`certified`) are all "
            "of its samples known.",
        ),
        Mistake(
            _to_the_last_bit,
            "Rounding keeps every row from being equal to the last bit. Allow for some 1e-3.",
        ),
        Mistake(
            lambda model, gradients, batch_size, candidates: [True] * len(candidates),
            "One of the candidates was never near this client.",
        ),
    ),
    hints=(
        "There are three answers. Which rows of the result support a yes, and which result as a whole supports a no?",
        "A yes takes a row with `certified_rows` that equals the candidate up to rounding; a no takes `certified`.",
        "`proven = result.inputs[result.certified_rows]`; then `((proven - candidate).abs() < 1e-3).all(dim=1).any()`.",
    ),
)


ONLY_A_GRADIENT = OpenQuestion(
    name="00/only_a_gradient",
    minutes=10,
    text="A colleague writes into the consent form: *the model is trained on your device; your photographs never "
    "leave it, only an anonymous update does.* Which half of this is true, which is not, and what would you write "
    "instead? Three sentences.",
    model_answer="It is true that the files stay on the device. It is not true that what leaves it is anonymous: "
    "you have just computed photographs from an update. Better: *an update computed from your photographs leaves "
    "your device; whoever receives it may be able to compute photographs from it, unless the protections named "
    "below prevent it.*",
)
