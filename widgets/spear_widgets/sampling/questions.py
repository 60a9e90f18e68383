"""Questions of notebook 03. They stand here so that the cell does not tell the answer."""

from spear_core.study import theory
from spear_widgets.kit.predict import Prediction
from spear_widgets.kit.scene import scene
from spear_widgets.sampling.candidate import CANDIDATES, candidates
from spear_widgets.sampling.collecting import ASKED, FACTORS, KINDS, collect
from spear_widgets.sampling.threshold import ASKED_TAU, SHARES


def chance_of_a_hit() -> Prediction:
    """How often does a draw give a direction?"""
    choices = ["about one in a thousand", "about one in four", "more than half"]
    return Prediction(
        "b = 4. You draw three rows of L at random, without knowing who is silent where. How often is their null "
        "vector one of the four right directions?",
        choices,
        lambda: float(candidates(scene("photos", 4), CANDIDATES).right.double().mean()),
        "For one sample all three rows are zero with probability about (½)<sup>3</sup>. There are four samples, but "
        "photographs share zeros, and sets that are zero for two samples at once are of no use.",
        limits=(0.01, 0.5),
    )


def zeros_of_a_mixture() -> Prediction:
    """How many zeros has a mixture of two samples?"""
    choices = list(SHARES)

    def measured() -> float:
        found = candidates(scene("photos", 6), CANDIDATES)
        return float(found.zeros[found.mixed == 2].double().mean()) / found.zero.shape[1]

    return Prediction(
        "A wrong q happens to mix only two samples. Which share of the entries of L q is zero?",
        choices,
        measured,
        "An entry is zero where both samples are silent: ½ · ½ if their patterns are unrelated, more if they are "
        "alike.",
        limits=(0.15, 0.4),
    )


def width_and_rejection() -> Prediction:
    """How does the width change the risk of losing a right direction?"""
    choices = ["the same in both", "about four times smaller", "more than a hundred times smaller"]

    return Prediction(
        f"τ = {ASKED_TAU:g}. How much smaller is the risk of rejecting a right direction in a layer of 400 units than "
        "in one of 50?",
        choices,
        lambda: theory.false_rejection(50, ASKED_TAU) / theory.false_rejection(400, ASKED_TAU),
        "The share of zeros scatters around one half by 1 / (2 √m). The tail below τ falls exponentially with m.",
        limits=(2, 100),
    )


def cost_of_similar_samples() -> Prediction:
    """What do similar samples do to the number of draws?"""
    return Prediction(
        "Digits resemble each other more than random noise does. How many draws does a batch of six digits take, "
        "compared with six vectors of noise?",
        list(FACTORS),
        lambda: collect(KINDS[2], ASKED).mean / collect(KINDS[0], ASKED).mean,
        "Similar samples are silent in the same units. A set of rows that is zero for two samples leaves a plane of "
        "directions instead of one, and the draw is lost.",
        limits=(0.7, 2),
    )
