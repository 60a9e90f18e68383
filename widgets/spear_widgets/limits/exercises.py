"""Exercises of notebook 08, with the mistakes that people make in them."""

from typing import Any

import torch
from torch import Tensor, nn

import spear_core
from spear_core import client
from spear_core.client import data, defences, networks
from spear_core.study import metrics
from spear_widgets.kit.compare import close, numbers
from spear_widgets.kit.exercise import Cases, Exercise, Function, Mistake, OpenQuestion
from spear_widgets.limits.contest import Contest, Lost, Recognised, lost, recognised


# ---------------------------------------------------------------- clipping
def clip(grads, norm):  # type: ignore[no-untyped-def]  # shown as the solution
    """Mean of the rows, each shortened to the norm if it is longer."""
    lengths = grads.norm(dim=1, keepdim=True)
    return (grads * (norm / lengths).clamp(max=1)).mean(dim=0)


def _clips_the_mean(grads: Tensor, norm: float) -> Tensor:
    mean = grads.mean(dim=0)
    return mean * min(1.0, norm / float(mean.norm()))


def _examples() -> Cases:
    for seed, (b, n, norm) in enumerate([(4, 6, 1.0), (8, 30, 2.5), (3, 5, 0.1)]):
        generator = torch.Generator().manual_seed(seed)
        grads = torch.randn(b, n, generator=generator, dtype=torch.float64)
        grads = (
            grads / grads.norm(dim=1, keepdim=True) * torch.logspace(1, -1, b, dtype=torch.float64)[:, None]
        )
        yield f"{b} examples, norm {norm:g}", (grads * norm, norm)


def _nearly(wanted: Tensor, yours: object) -> bool:
    """To 32 bits: libraries add up to 1e-6 to a length before they divide by it."""
    return close(wanted.float(), yours)


CLIP = Exercise(
    name="08/clip",
    level="warm-up",
    minutes=8,
    task="Write `clip(grads, norm)`: grads has one example's gradient in each row, shape (b, k). Shorten each row to "
    "the norm if it is longer, leave it if it is not, and return the mean over the examples, shape (k,).",
    reference=clip,
    cases=_examples,
    mistakes=(
        Mistake(
            _clips_the_mean, "Clip every example first, then take the mean: one example must not rule it."
        ),
        Mistake(
            lambda grads, norm: (grads * (norm / grads.norm()).clamp(max=1)).mean(dim=0),
            "That is the length of the whole table. Each row has its own: `grads.norm(dim=1, keepdim=True)`.",
        ),
        Mistake(
            lambda grads, norm: (grads * (norm / grads.norm(dim=1, keepdim=True)).clamp(min=1)).mean(dim=0),
            "That lengthens short rows and leaves long ones. The factor is at most 1: `clamp(max=1)`.",
        ),
        Mistake(
            lambda grads, norm: (grads * (norm / grads.abs().sum(dim=1, keepdim=True)).clamp(max=1)).mean(
                dim=0
            ),
            "The length is the root of the sum of squares, not the sum of magnitudes.",
        ),
        Mistake(
            lambda grads, norm: grads.mean(dim=0),
            "That is the mean of the rows as they are. Which are longer than the norm?",
        ),
        Mistake(
            lambda grads, norm: (grads * (norm / grads.norm(dim=1, keepdim=True))).mean(dim=0),
            "A row that is shorter than the norm stays as it is: the factor is at most 1.",
        ),
        Mistake(
            lambda grads, norm: grads.clamp(-norm, norm).mean(dim=0),
            "It is the length of the whole row that is limited, not each entry.",
        ),
        Mistake(
            lambda grads, norm: clip(grads, norm) * len(grads),
            "The mean over the examples is wanted, not their sum.",
        ),
        Mistake(
            lambda grads, norm: (grads * (grads.norm(dim=1, keepdim=True) <= norm)).mean(dim=0),
            "A row that is too long is shortened, not thrown away.",
        ),
    ),
    hints=(
        "How long is each row, and by which factor must it shrink?",
        "The factor is norm / length, but at most 1.",
        "`(grads * (norm / lengths).clamp(max=1)).mean(dim=0)`, with lengths of shape (b, 1).",
    ),
    agree=_nearly,
)


# ---------------------------------------------------------------- defend
def defend(grad, generator):  # type: ignore[no-untyped-def]  # shown as the solution
    """Three bits a number: every entry to the nearest of seven evenly spaced values."""
    step = grad.abs().max() / 3
    return (grad / step).round() * step if step > 0 else grad


def _bits(grad: Tensor, bits: int) -> Tensor:
    step = grad.abs().max() / (2 ** (bits - 1) - 1)
    return (grad / step).round() * step if step > 0 else grad


POINTS, FEW = 2.0, 1  # of accuracy that may be lost; samples of a batch that may be recognised
SEEN = (
    "The attack still recognises the samples. A factor, a shift or a little noise are not enough: look at the curves "
    "above for the strength at which a defence begins to hold."
)
COSTS = (
    "Nothing is recognised, but training pays too much. Send more of the gradient: in the curves above, which defences "
    "hold before accuracy falls?"
)
NOTHING_LEARNT = (
    "With such messages the network learns next to nothing. The signs and the large entries of the gradient must "
    "survive "
    "on average."
)


def _measure(function: Function, what: str, seed: int) -> Recognised | Lost:
    return lost(function) if what == "training" else recognised(function, what, seed)


def _holds(arguments: tuple[Any, ...], found: Recognised | Lost) -> str:
    """What is wrong with a defence."""
    if isinstance(found, Recognised):
        return SEEN if found.count > FEW else ""
    return "" if found.points <= POINTS else COSTS if found.points < 50 else NOTHING_LEARNT


DEFEND = Contest(
    name="08/defend",
    level="task",
    minutes=30,
    task="Defend a client. Write `defend(grad, generator)`: it is called for each parameter's gradient before it "
    "is sent, and returns what is sent in its place, of the same shape; take randomness from `generator`. Two "
    "batches are attacked, with all searches of the library and by the zeros alone, and at most one of eight samples "
    "may be recognisable in each. Then two networks learn digits from defended gradients, and may lose at most "
    "**two points** of accuracy. Change the gradient in any way that you can name: the solution is one of many.",
    reference=defend,
    cases=lambda: [
        ("eight photographs are attacked", ("photos", 1)),
        ("eight digits are attacked", ("digits", 0)),
        ("two networks are trained", ("training", 0)),
    ],
    mistakes=(
        Mistake(lambda grad, generator: grad, SEEN),
        Mistake(lambda grad, generator: _bits(grad, 2), COSTS),
        Mistake(lambda grad, generator: torch.zeros_like(grad), NOTHING_LEARNT),
    ),
    hints=(
        "Noise, rounding or leaving out: each has a strength from which it holds, and a price. Read both off the "
        "curves.",
        "Rounding to few bits holds at three, noise when it is about as large as the gradient, top-k where some "
        "fifth of "
        "the entries is kept.",
        "Three bits: `step = grad.abs().max() / 3`, then every entry to the nearest multiple of `step`. A gradient "
        "may be "
        "zero throughout: then send it as it is.",
    ),
    seconds=120,
    brings=_measure,
    judge=_holds,
)


# ---------------------------------------------------------------- break
def behind(model, gradients):  # type: ignore[no-untyped-def]  # shown as the solution
    """The inputs that the equations of the active units determine, shape (k, n)."""
    later = spear_core.invert(model, gradients)  # what comes back are the outputs y of the first layer
    weight, bias = (parameter.detach() for parameter in model[0].parameters())
    found = []
    for y in later.inputs:
        on = y > 1e-3 * y.max()
        if int(on.sum()) >= weight.shape[1]:
            equations, right = weight[on].double(), (y - bias)[on].double()
            found.append(torch.linalg.lstsq(equations, right[:, None]).solution[:, 0])
    return torch.stack(found) if found else torch.zeros(0, weight.shape[1])


CLIENTS = (
    ("digits", 200, 3),
    ("photos", 200, 1),
    ("digits", 90, 2),
)  # kind, width, seed; each sends six samples
MISSING = (
    "Of the digits nothing comes back that is right. A unit with $y_j > 0$ gives the equation "
    "$W_j x + \\beta_j = y_j$, a silent one gives none, and $\\beta$ belongs to it."
)
UNFOUNDED = (
    "You return samples that the equations do not determine, and they are wrong. Count: $n$ unknowns, and one equation "
    "for each active unit. Where there are too few, return no row for that sample."
)
OUTPUTS = "These are the outputs $y$ of the first layer. Wanted are its inputs, $n$ numbers each."


def _message(kind: str, width: int, seed: int) -> tuple[data.Batch, nn.Sequential, dict[str, Tensor]]:
    """A client that sends no gradient of its first layer."""
    batch = data.load(kind, 6, generator=torch.Generator().manual_seed(seed))
    n = batch.inputs.shape[1]
    model = networks.fully_connected(n, width, 4, generator=torch.Generator().manual_seed(seed))
    return batch, model, defences.withheld(client.gradients(model, batch.inputs, batch.labels), ("0.",))


def _messages() -> Cases:
    names = ("digits, 200 units", "photographs, 200 units", "digits, 90 units")
    return [(name, _message(*sender)[1:]) for name, sender in zip(names, CLIENTS)]


def _determined(arguments: tuple[Any, ...], yours: Any) -> str:
    """What is wrong with the inputs behind a hidden layer."""
    weight = arguments[0][0].weight
    (sender,) = (c for c in CLIENTS if c[1] == len(weight) and (c[0] == "digits") == (weight.shape[1] == 64))
    truth = _message(*sender)[0].inputs
    found = numbers(yours).detach()
    if found.ndim != 2 or found.shape[1] != truth.shape[1]:
        return (
            OUTPUTS
            if found.shape[-1:] == (len(weight),)
            else "The shape must be (k, n), a row for each sample."
        )
    right = int(metrics.compare(found.to(truth.dtype), truth).exact.sum())
    if sender != CLIENTS[0]:
        return UNFOUNDED if len(found) > right else ""
    return MISSING if right < len(truth) else ""


def _no_count(model: nn.Sequential, gradients: dict[str, Tensor]) -> Tensor:
    later = spear_core.invert(model, gradients)
    weight, bias = (parameter.detach().double() for parameter in model[0].parameters())
    rows = []
    for y in later.inputs.double():
        on = y > 1e-3 * y.max()
        rows.append(torch.linalg.lstsq(weight[on], (y - bias)[on][:, None], driver="gelsd").solution[:, 0])
    return torch.stack(rows)


def _silent_ones_too(model: nn.Sequential, gradients: dict[str, Tensor]) -> Tensor:
    later = spear_core.invert(model, gradients)
    weight, bias = (parameter.detach().double() for parameter in model[0].parameters())
    if len(weight) < weight.shape[1]:
        return torch.zeros(0, weight.shape[1])
    return torch.linalg.lstsq(weight, (later.inputs.double() - bias).T).solution.T


BEHIND = Exercise(
    name="08/behind",
    level="task",
    minutes=30,
    task="Break a defended client. It sends no gradient of layer 1. `spear_core.invert(model, gradients).inputs`"
    " then holds, certified, the *outputs* $y = \\mathrm{relu}(W x + \\beta)$ of that layer, one sample a row, and the "
    "server knows $W$ and $\\beta$ (`model[0]`). Write `behind(model, gradients)`: the inputs $x$, shape $(k, n)$, "
    "one a row. Claim nothing that you cannot know: return a row only where the equations determine it, and no rows, "
    "shape $(0, n)$, if they determine none.",
    reference=behind,
    cases=_messages,
    mistakes=(
        Mistake(lambda model, gradients: spear_core.invert(model, gradients).inputs, OUTPUTS),
        Mistake(_no_count, UNFOUNDED),
        Mistake(_silent_ones_too, MISSING),
    ),
    hints=(
        "What does $y_j > 0$ say about $x$, and what does $y_j = 0$ say?",
        "Each active unit is one linear equation, $W_j x = y_j - \\beta_j$. With at least $n$ of them, $x$ is "
        "determined.",
        "For each row $y$: `on = y > 1e-3 * y.max()`; if `on.sum() >= n`, solve `W[on] x = (y - bias)[on]` with "
        "`torch.linalg.lstsq`; else leave that sample out.",
    ),
    seconds=60,
    judge=_determined,
)


# ---------------------------------------------------------------- judge
def judged():  # type: ignore[no-untyped-def]  # shown as the solution
    """What the measurements of this notebook say about each sentence of the report."""
    return {
        "A": "supported",  # 80 of 80 at every C
        "B": "open",  # not broken, and ε of more than 5,000 promises nothing
        "C": "refuted",  # by the zeros alone all 80 came back
        "D": "open",  # the clock stopped the attack
        "E": "supported",  # 0 of 80, and one point
        "F": "refuted",  # 64 numbers and some 200 equations: digits come back
        "G": "supported",  # all 80 photographs, without names
    }


REPORT = {
    "A": "Clipping every example's gradient, without noise, hid no photograph, however small $C$ was.",
    "B": "With DP-SGD at $\\sigma = 0.01$ nobody can recover a photograph.",
    "C": "Dropout with $p = 0.5$ protects the batch: of 80 photographs none came back.",
    "D": "At $m = 400$, a batch of 240 cannot be recovered.",
    "E": "Rounded to three bits a number, no photograph was recognisable to the stored attack, for about a point of "
    "accuracy.",
    "F": "A first layer whose gradient is withheld protects whatever data the client has.",
    "G": "Secure aggregation of ten clients hides whose a photograph is, and not the photograph.",
}
WHY = {
    "A": "Read the lines on clipping: how many of 80 were recognisable at each $C$?",
    "B": "*Nobody can* is about every attack. What came back in the stored runs, and what does $\\varepsilon$ say at "
    "this "
    "$\\sigma$? Neither shows the sentence, and neither shows its opposite.",
    "C": "Which attack failed, and which one was tried after it?",
    "D": "What ended the stored attacks at this size: a refusal, a proof, or the clock?",
    "E": "The sentence names its attack and its price. Compare both with the lines on quantisation.",
    "F": "*Whatever data*: one kind is enough to refute it. How many numbers has a digit, how many equations are "
    "there?",
    "G": "What is the sum of ten gradients the gradient of, and what of it tells one client from another?",
}
WORDS = ("supported", "refuted", "open")


def _report_is_judged(arguments: tuple[Any, ...], yours: Any) -> str:
    """What to look at in the first sentence that is judged otherwise."""
    if not isinstance(yours, dict) or set(yours) != set(REPORT) or not set(yours.values()) <= set(WORDS):
        return (
            "Return a dictionary with the letters A to G, and one of "
            + ", ".join(map(repr, WORDS))
            + " for each."
        )
    wrong = [letter for letter, word in judged().items() if yours[letter] != word]
    return f"{wrong[0]}. {WHY[wrong[0]]}" if wrong else ""


def _misjudged(letter: str, word: str) -> Mistake:
    return Mistake(lambda: judged() | {letter: word}, f"{letter}. {WHY[letter]}")


JUDGED = Exercise(
    name="08/judged",
    level="task",
    minutes=15,
    task="Judge a report: seven sentences from the audit of a client. Write `judged()`: a dictionary that gives each "
    "letter `'supported'` (the measurements of this notebook show it), `'refuted'` (they show its opposite) or "
    "`'open'` (they show neither).\n\n"
    + "\n".join(f"- **{letter}.** {text}" for letter, text in REPORT.items()),
    reference=judged,
    cases=lambda: [("seven sentences", ())],
    mistakes=(
        _misjudged("A", "refuted"),
        _misjudged("B", "supported"),
        _misjudged("C", "supported"),
        _misjudged("D", "supported"),
        _misjudged("E", "open"),
        _misjudged("F", "supported"),
        _misjudged("G", "open"),
    ),
    hints=(
        "For each sentence, find the lines of this notebook that speak of it. Whom does the sentence speak of: one "
        "attack, "
        "or all of them?",
        "*Nothing came back from one attack* supports a sentence on that attack. It leaves one on all attacks open, "
        "unless another attack got through, which refutes it.",
        "Two sentences are open: what they deny has not been done, and nothing shows that it cannot be. Two are "
        "refuted, "
        "each by another attack or by other data.",
    ),
    judge=_report_is_judged,
)

HOSPITAL = OpenQuestion(
    "08/hospital",
    "Five hospitals train a network on X-rays with federated averaging. You are asked what each should send so that no "
    "patient's picture can be computed from it. Write the advice: what they change, what it costs, what you measured, "
    "what you do not know, and what would make you take the advice back. Ten sentences.",
    30,
    "A good answer names one setting and its numbers: DP-SGD with the $\\varepsilon$ that is promised, under "
    "which unit (a picture or a patient), over all rounds together; the accuracy it costs on *their* data; "
    "secure aggregation beside it, since it hides whose a picture is, and not as a replacement. It says which "
    "attacks were run against exactly this setting, among them the ones by zeros alone, and on how many "
    "batches. It does not call a refusal or a stopped clock protection. It says that only $\\varepsilon$ speaks"
    " of attacks nobody has thought of, and what would change its mind: one recognisable picture, or an "
    "accuracy that makes people turn the noise down.",
)
