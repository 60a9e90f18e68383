"""Questions of notebook 08. They stand here so that the cell does not tell the answer."""

from typing import Any

from spear_core.study import defended, metrics, sparsest
from spear_widgets.kit.predict import Prediction
from spear_widgets.kit.words import middle
from spear_widgets.limits.defences import attacked

LEVELS = {"lost": "lost", "recognisable": "recognisable, but not exact", "exact": "exact"}


def outcome_of(defence: str, value: Any) -> str:
    """Exact, recognisable or lost: the median sample of the first batch of photographs."""
    median = middle(attacked(defence, value, "photos", 0).found.psnr)
    return "exact" if median >= metrics.EXACT_DB else "recognisable" if median >= metrics.SEEN_DB else "lost"


def _level(question: str, defence: str, value: Any, why: str, **words: str) -> Prediction:
    """Which of three levels comes back; `words` replace those for a level."""
    choices = LEVELS | words
    return Prediction(question, list(choices.values()), lambda: choices[outcome_of(defence, value)], why)


def noise() -> Prediction:
    """One per cent of noise."""
    return _level(
        "Gaussian noise is added to every entry, of one per cent of the gradient's root mean square (rms). The eight "
        "photographs come back…",
        "noise",
        1e-2,
        "Each photograph is an average over hundreds of noisy rows, and an average suppresses noise. The zeros are "
        "gone, so nothing can be proven.",
        lost="nobody recognises them",
        exact="exact, to 90 dB",
    )


def clipping() -> Prediction:
    """Clipping without noise."""
    return _level(
        "Every example's gradient is clipped to a thousandth of the norm 1, without noise. The photographs come back…",
        "clip",
        1e-3,
        "Clipping multiplies a sample's gradient by one number. Directions, zeros and the quotient "
        "∂L/∂W over ∂L/∂β stay what they were.",
        recognisable="darker, but recognisable",
    )


def local_steps() -> Prediction:
    """Five steps, of which only the sum is sent."""
    return _level(
        "A client takes five steps on its whole batch, at learning rate 0.1, and sends only the difference of its "
        "weights. The photographs come back…",
        "steps",
        5,
        "Five steps on the same samples add up to nearly one, as long as few units change sides between them.",
    )


def aggregation() -> Prediction:
    """A sum over ten clients."""
    choices = ["none", "the 8 of one client", "all 80"]

    def answer() -> int:
        return int((attacked("clients", 10, "photos", 0).found.psnr >= metrics.EXACT_DB).sum())

    return Prediction(
        "Ten clients with 8 photographs each; the server sees only the sum of their gradients. m = 400. How many "
        "photographs come back?",
        choices,
        answer,
        "The sum over clients is the gradient of one batch of 80. Below about m/2 samples that is no protection. "
        "What the server no longer knows is which client a photograph belongs to.",
        limits=(4, 40),
    )


def short_numbers() -> Prediction:
    """Eight bits a number."""
    return _level(
        "Every number of the gradient is sent with 8 bits instead of 32. The photographs come back…",
        "bits",
        8,
        "Rounding acts as noise of half a step, and every parameter has many small entries beside a few large ones "
        "that set the step.",
    )


def dropout() -> Prediction:
    """Does a failure of one attack protect against another?"""
    choices = ["stays hidden", "comes back in part", "comes back whole, exactly"]

    def answer() -> int:
        sent = defended.message("dropout", 0.1)
        found = sparsest.sparsest_batch(sent.gradients["0.weight"], sent.gradients["0.bias"], 8)
        return int(metrics.compare(found, sent.batch.inputs).exact.sum())

    return Prediction(
        "With a tenth of the units dropped, the attack brought back not one of 80 photographs. Now on one of these "
        "batches SPEAR's first steps are tried, which know nothing but zeros. The batch…",
        choices,
        answer,
        "A dropped unit is one more zero in its column, and those steps ask for zeros. What failed was a later one, "
        "which expects zeros exactly where the forward pass has them.",
        limits=(2, 7),
    )
