"""Exercises of notebook 04, with the mistakes that people make in them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

import spear_core
from spear_core.search import State
from spear_widgets.kit.compare import numbers
from spear_widgets.kit.exercise import Cases, Exercise, Mistake, OpenQuestion
from spear_widgets.kit.scene import scene
from spear_widgets.kit.twins import client_with


# ---------------------------------------------------------------- λ
def sparsity_match(output_grads, preactivations):  # type: ignore[no-untyped-def]  # shown as the solution
    """λ, the share of entries with [∂L/∂Z = 0] = [Z ≤ 0]."""
    agree = (output_grads == 0) == (preactivations <= 0)
    return float(agree.double().mean())


def _patterns() -> Cases:
    stage = scene("photos", 3, 60)
    D, Z = stage.output_grads, stage.preactivations
    another = scene("photos", 5, 80, 1)
    return [
        ("the true batch", (D, Z)),
        ("two samples exchanged", (D[[1, 0, 2]], Z)),
        ("five samples exchanged", (another.output_grads.flip(0), another.preactivations)),
        ("pre-activations of another batch", (D, scene("photos", 3, 60, 5).preactivations)),
        ("one sample, a z of exactly 0", (torch.tensor([[0.0, 0.0, 2.0]]), torch.tensor([[0.0, 1.0, 1.0]]))),
    ]


SPARSITY_MATCH = Exercise(
    name="04/sparsity_match",
    level="warm-up",
    minutes=5,
    task="Write `sparsity_match(output_grads, preactivations)`: λ, the share of all entries where ∂L/∂Z is zero if and "
    "only if Z ≤ 0. Both are of shape (b, m); zeros are exactly 0.",
    reference=sparsity_match,
    cases=_patterns,
    mistakes=(
        Mistake(
            lambda output_grads, preactivations: 1 - float(sparsity_match(output_grads, preactivations)),
            "That is the share of entries that disagree: λ = 1 means that all agree.",
        ),
        Mistake(
            lambda output_grads, preactivations: float(
                ((output_grads == 0) & (preactivations <= 0)).double().mean()
            ),
            "Entries that are both *not* zero agree, too. Compare the two conditions with ==, not with &.",
        ),
        Mistake(
            lambda output_grads, preactivations: float(
                ((output_grads == 0) == (preactivations == 0)).double().mean()
            ),
            "Silent means Z ≤ 0, not Z = 0.",
        ),
        Mistake(
            lambda output_grads, preactivations: float(
                ((output_grads == 0) == (preactivations < 0)).double().mean()
            ),
            "A pre-activation of exactly 0 is silent, too: ≤, not <.",
        ),
        Mistake(
            lambda output_grads, preactivations: float(
                ((output_grads == 0).double().mean() + (preactivations <= 0).double().mean()) / 2
            ),
            "Two shares can be equal and the zeros stand in other places. Compare entry by entry.",
        ),
        Mistake(
            lambda output_grads, preactivations: float(
                ((output_grads == 0) == (preactivations >= 0)).double().mean()
            ),
            "A unit is silent where Z is negative: look at the direction of the sign.",
        ),
        Mistake(
            lambda output_grads, preactivations: (
                ((output_grads == 0) == (preactivations <= 0)).double().mean(dim=1)
            ),
            "That is one share for each sample. λ is one number, over all samples and units.",
        ),
        Mistake(
            lambda output_grads, preactivations: int(((output_grads == 0) == (preactivations <= 0)).sum()),
            "That is the number of entries that agree. A share is between 0 and 1.",
        ),
        Mistake(
            lambda output_grads, preactivations: float(
                (preactivations[output_grads == 0] <= 0).double().mean()
            ),
            "That asks only where ∂L/∂Z is zero. An active unit with a zero gradient counts, and so does a silent "
            "one without.",
        ),
    ),
    hints=(
        "Two conditions for each entry. When do they agree?",
        "`(output_grads == 0)` and `(preactivations <= 0)` are two tables of True and False.",
        "Compare the two tables with ==, and take the mean as a number: `.double().mean()`.",
    ),
)


# ---------------------------------------------------------------- state by state
def first_match(states):  # type: ignore[no-untyped-def]  # shown as the solution
    """Draws until a batch with λ = 1 was there; −1 if there never was one."""
    for state in states:
        if state.sparsity_match == 1:
            return state.samples_drawn
    return -1


def _full_pool(states: Sequence[State]) -> int:
    for state in states:
        if state.pool.directions.shape[1] >= state.batch_size:
            return state.samples_drawn
    return -1


def _position(states: Sequence[State]) -> int:
    matches = [number for number, state in enumerate(states) if state.sparsity_match == 1]
    return matches[0] if matches else -1


def _first_batch(states: Sequence[State]) -> int:
    for state in states:
        if state.reconstruction is not None:
            return state.samples_drawn
    return -1


def _runs() -> Cases:
    for name, b, width, seed, kind in (
        ("digits", 10, 100, 1, "none"),
        ("photos", 4, 200, 3, "same"),
        ("photos", 6, 60, 3, "near"),
    ):
        problem = client_with(name, b, width, seed, kind).problem
        generator = torch.Generator().manual_seed(0)
        run = spear_core.states(problem, method="sampling", max_samples=3000, generator=generator)
        yield f"{b} {name}, at most 3,000 draws", (tuple(run),)


FIRST_MATCH = Exercise(
    name="04/first_match",
    level="warm-up",
    minutes=8,
    task="Write `first_match(states)`: `states` holds all states of one attack, in order. After how many draws was "
    "there a batch with $\\lambda = 1$ for the first time? −1 if there never was one. Each state has `step`, "
    "`samples_drawn`, `pool.directions`, `reconstruction` (or `None`) and `sparsity_match` ($\\lambda$ of the best "
    "batch so far).",
    reference=first_match,
    cases=_runs,
    mistakes=(
        Mistake(
            lambda states: states[-1].samples_drawn,
            "That is where the attack ended, whether or not it got there.",
        ),
        Mistake(
            _full_pool,
            "A pool of b directions may hold mixtures, and there may be no batch yet. Ask for $\\lambda$.",
        ),
        Mistake(
            _position, "That is the number of the state. One state stands for many draws: `samples_drawn`."
        ),
        Mistake(_first_batch, "That is the first batch, whatever its $\\lambda$."),
    ),
    hints=(
        "Go through the states in order and stop at the first one that has what you look for.",
        "`state.sparsity_match == 1` says that every zero is where the network puts it.",
        "Return `state.samples_drawn` of that state, and −1 after the loop.",
    ),
)


# ---------------------------------------------------------------- SPEAR in forty lines
def spear(weight_grad, bias_grad, weight, bias):  # type: ignore[no-untyped-def]  # shown as the solution
    """The batch, shape (b, n), by the five steps of SPEAR."""
    G, g, W, beta = (part.double() for part in (weight_grad, bias_grad, weight, bias))
    U, S, Vh = torch.linalg.svd(G, full_matrices=False)  # step 1: G = L R, and b
    b = int((1e-6 * S[0] < S).sum())
    L, R = U[:, :b], S[:b, None] * Vh[:b]
    live = L[L.norm(dim=1) > 1e-6 * L.norm(dim=1).max()]
    generator, pool = torch.Generator().manual_seed(0), L[:0]
    for _ in range(50_000):
        rows = live[torch.randperm(len(live), generator=generator)[: b - 1]]
        q = torch.linalg.svd(rows).Vh[-1]  # step 2: b − 1 random rows give a candidate
        entries = (L @ q).abs()
        zero = entries < 1e-5 * entries.max()
        if zero.sum() < 0.25 * len(L):  # step 3: the filter
            continue
        q = torch.linalg.svd(L[zero]).Vh[-1]  # from all its zeros at once, which takes away rounding
        if ((pool @ q).abs() > 1 - 1e-6).any():
            continue
        pool = torch.cat([pool, q[None]])  # one direction a row
        entries = (L @ pool.T).abs()
        zeros = (entries < 1e-5 * entries.amax(dim=0)).sum(dim=0)
        chosen = pool[:0]  # step 4: the sparsest ones that are independent
        for q in pool[zeros.argsort(descending=True)]:
            one_more = torch.cat([chosen, q[None]])
            if torch.linalg.matrix_rank(one_more, rtol=1e-4) == len(one_more):
                chosen = one_more
        if len(chosen) < b:
            continue
        Q = chosen.T * torch.linalg.lstsq(L @ chosen.T, g[:, None]).solution[:, 0]  # step 5: lengths
        X = torch.linalg.solve(Q, R)
        D, Z = L @ Q, W @ X.T + beta[:, None]
        zero = D.abs() < 1e-5 * D.abs().amax(dim=0)
        if (zero == (Z <= 0)).all():  # λ = 1
            return X
    return torch.zeros(0, G.shape[1])


def _same_rows(wanted: Tensor, yours: Tensor) -> bool:
    """The same samples, in whatever order."""
    yours = numbers(yours).to(wanted)
    if yours.shape != wanted.shape:
        return False
    near = torch.cdist(wanted, yours) < 1e-3 * wanted.norm(dim=1).max()
    return bool(near.any(dim=0).all() and near.any(dim=1).all())


def _layers() -> Cases:
    for name, b, width, seed in (("photos", 3, 100, 1), ("digits", 5, 200, 1), ("photos", 8, 200, 3)):
        layer = scene(name, b, width, seed).layer
        yield (
            f"b = {b}, {name}, width {width}",
            (layer.weight_grad, layer.bias_grad, layer.weight, layer.bias),
        )


def _of_length_one(weight_grad: Tensor, bias_grad: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    batch: Tensor = spear(weight_grad, bias_grad, weight, bias)
    return torch.nn.functional.normalize(batch, dim=1)


SPEAR = Exercise(
    name="04/spear",
    level="task",
    minutes=40,
    task="Write `spear(weight_grad, bias_grad, weight, bias)`: the batch, shape (b, n), in any order, by the five "
    "steps, in forty lines of plain `torch`. Leave `spear_core` closed. Split $G$; draw rows, filter their null "
    "vectors, keep those that differ; choose $b$ independent ones, the sparsest first; scale, reconstruct, and stop "
    "at $\\lambda = 1$. The last case is a batch of 8.",
    reference=spear,
    cases=_layers,
    agree=_same_rows,
    seconds=120,
    mistakes=(
        Mistake(
            lambda weight_grad, bias_grad, weight, bias: torch.linalg.svd(
                weight_grad.double(), full_matrices=False
            ).Vh[: int(torch.linalg.matrix_rank(weight_grad.double(), rtol=1e-6))],
            "Those are right singular vectors of G, mixtures of the samples. The split is only the first step.",
        ),
        Mistake(
            _of_length_one,
            "The right samples at the wrong lengths: the bias gradient gives the lengths, $g = L \\bar Q s$.",
        ),
        Mistake(
            lambda weight_grad, bias_grad, weight, bias: (
                weight_grad / bias_grad.where(bias_grad != 0, torch.ones_like(bias_grad))[:, None]
            ),
            "That is the division of notebook 01, which gives the sample only if there is one.",
        ),
    ),
    hints=(
        "Write the five steps one after the other, and print after each: the rank, the zeros of a few candidates, "
        "the size of the pool, $\\lambda$.",
        "Keep a candidate if a quarter of all entries of $L q$ are zero, and fit it to all its zeros: the null "
        "vector of `L[zero]`. Otherwise rounding grows with every step.",
        "If $\\lambda$ stays below 1, the pool holds mixtures: sort by the number of zeros before you choose, and "
        "go on drawing. Scale with `lstsq(L @ Q, g[:, None])`, then `solve(Q, R)`.",
    ),
)


# ---------------------------------------------------------------- find the twins
def twins(factor, directions):  # type: ignore[no-untyped-def]  # shown as the solution
    """Numbers of the directions whose zeros leave more than one direction."""
    found = []
    for number, q in enumerate(directions.T):
        entries = (factor @ q).abs()
        rows = factor[entries < 1e-5 * entries.max()]
        values = torch.linalg.svdvals(rows)
        rank = int((values > 1e-5 * values[0]).sum())
        if rank < factor.shape[1] - 1:
            found.append(number)
    return found


def _rank_at_least(factor: Tensor, directions: Tensor, least: int, rtol: float) -> list[int]:
    found = []
    for number, q in enumerate(directions.T):
        entries = (factor @ q).abs()
        rows = factor[entries < 1e-5 * entries.max()]
        if int(torch.linalg.matrix_rank(rows, rtol=rtol)) < least:
            found.append(number)
    return found


def _the_others(factor: Tensor, directions: Tensor) -> list[int]:
    found: list[int] = twins(factor, directions)
    return [number for number in range(factor.shape[1]) if number not in found]


def _clients() -> Cases:
    # twins far enough apart that their rounding stays below a twentieth of the tolerance
    for b, width, seed, kind in ((4, 200, 7, "same"), (5, 100, 1, "none"), (6, 200, 1, "same")):
        stage = client_with("photos", b, width, seed, kind)
        order = torch.arange(b).roll(seed)
        words = "two of them with one activation pattern" if kind == "same" else "all different"
        yield f"{b} photographs, {words}", (stage.low_rank.factor, stage.true_directions[:, order])


TWINS = Exercise(
    name="04/twins",
    level="task",
    minutes=20,
    task="Find the twins without looking at a picture. Write `twins(factor, directions)`: a list of the numbers, "
    "from 0, of the columns of `directions` whose zeros do *not* pin them down: the rows of $L$ on which the "
    "direction is zero leave another direction, too. `factor` is $L$, shape (m, b); `directions` are unit columns, "
    "shape (b, b).",
    reference=twins,
    cases=_clients,
    mistakes=(
        Mistake(
            lambda factor, directions: _rank_at_least(factor, directions, factor.shape[1] - 1, 1e-14),
            "Rounding fills up the rank: L comes from 32-bit numbers. Count the singular values that are more than "
            "rounding.",
        ),
        Mistake(
            lambda factor, directions: _rank_at_least(factor, directions, factor.shape[1], 1e-5),
            "b − 1 independent rows leave one direction: all of rank b would leave none.",
        ),
        Mistake(_the_others, "Those are the ones that are pinned down. Asked are the twins."),
    ),
    hints=(
        "Which rows of L are zero on a direction? How many directions are zero on all of these rows?",
        "b unknowns, so one direction is left if the rows have rank b − 1, and more if the rank is smaller.",
        "`rows = factor[entries < 1e-5 * entries.max()]`; count its singular values above 1e-5 of the largest, and "
        "compare with b − 1.",
    ),
)


# ---------------------------------------------------------------- which sentence is not supported?
REPORT = (
    "The gradient has rank 4, so at least four samples took part.",
    "The rows that are certified are inputs of the client, up to rounding.",
    "All four pictures are sharp, so all four were recovered exactly.",
    "λ = 1 and the gradient is reproduced, so the recovered batch is the private one.",
    "The server could compute the certified rows from what it received and the network alone.",
    "With 1 % of noise no row was certified, so noise of 1 % protects the photographs.",
    "With 1 % of noise this attack certified no row within its 2,000 draws.",
    "Two pictures show the same cat, so the client holds two photographs of this cat.",
)


def unsupported(number):  # type: ignore[no-untyped-def]  # shown as the solution
    """Whether a sentence, by its number from 1, goes beyond what was shown."""
    # 3: sharp is not proven. 4: a mixture of samples with one pattern passes both.
    # 6: one attack that fails says nothing of another. 8: rows that are not certified prove nothing.
    return number in (3, 4, 6, 8)


def _slip(wrong: int) -> Callable[[int], bool]:
    """The right judgements except on one sentence."""
    return lambda number: bool(unsupported(number)) != (number == wrong)


UNSUPPORTED = Exercise(
    name="04/unsupported",
    level="task",
    minutes=15,
    task="Judge an audit. A client with four photographs, two of which have one activation pattern, was attacked "
    "with SPEAR as above; then once more after it had added 1 % of noise. The report says:\n\n"
    + "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(REPORT, start=1))
    + "\n\nWrite `unsupported(number)`: `True` for the number of a sentence that the evidence does *not* support, else "
    "`False`.",
    reference=unsupported,
    cases=lambda: [(f"sentence {number}", (number,)) for number in range(1, len(REPORT) + 1)],
    mistakes=(
        Mistake(_slip(3), "Look at 3 again: who says that a sharp picture is the right one?"),
        Mistake(_slip(4), "Look at 4 again: which batches have λ = 1 and the same gradient, too?"),
        Mistake(_slip(6), "Look at 6 again: does the failure of one attack bind the next attacker?"),
        Mistake(
            _slip(8),
            "Look at 8 again: are these two rows among those of which anything is proven?",
        ),
        Mistake(_slip(1), "Look at 1 again: can three samples give a gradient of rank 4?"),
        Mistake(_slip(2), "Look at 2 again: what does *certified* say of a row?"),
        Mistake(_slip(5), "Look at 5 again: what did the attack get beside the gradient?"),
        Mistake(_slip(7), "Look at 7 again: does it claim more than what was run?"),
    ),
    hints=(
        "For each sentence, ask: what else could have produced what was seen?",
        "Two kinds go too far: those that take a good-looking result for a proof, and those that take a failed "
        "attack for safety.",
        "Four of the eight go too far.",
    ),
)


FIFTH_PART = OpenQuestion(
    name="04/fifth_part",
    minutes=10,
    text="A client's batch holds two samples with one activation pattern in the first layer. The server knows all "
    "weights. What could it look at, beside the first layer's zeros, to tell the two apart? What would it have to "
    "show before it may call the result certified?",
    model_answer="The later layers: the two samples' outputs differ, and a mixture of the two would send other "
    "gradients there. Replaying the client shows that, if the difference is larger than rounding. To certify, it "
    "must show that *nothing else* fits: for each sample a set of equations with one solution, for example that the "
    "outputs of the first layer lie in the row space of the next layer's gradient, which only few points do.",
)
