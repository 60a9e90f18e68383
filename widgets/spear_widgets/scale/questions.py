"""Questions of notebook 07. They stand here so that the cell does not tell the answer."""

import torch

from spear_core.client import data
from spear_core.study import collecting, metrics, theory
from spear_widgets.kit import words
from spear_widgets.kit.predict import Prediction
from spear_widgets.kit.scene import of_batch
from spear_widgets.kit.stored import results
from spear_widgets.scale.races import SEED, race
from spear_widgets.scale.reach import ASKED, EXPECTED, exact_share, measured


def size_of_a_picture() -> Prediction:
    """Do larger pictures take more draws?"""
    choices = ["about as many", "49 times as many", "2 to the power of 49 times as many"]

    def answer() -> float:
        expected = []
        for side in (16, 112):
            batch = data.load("photos", 4, size=side, generator=torch.Generator().manual_seed(0))
            stage = of_batch(batch, width=100, depth=3)
            hits = collecting.hit_probabilities(
                stage.output_grads, generator=torch.Generator().manual_seed(0)
            )
            expected.append(theory.expected_draws_each(hits))
        return expected[1] / expected[0]

    return Prediction(
        "A photograph of 224 × 224 has 49 times as many pixels as one of 32 × 32. How many times as many draws does "
        "sampling expect to need for the same b?",
        choices,
        answer,
        "The search works on L, m × b, which does not depend on n. Pixels enter only in the split and in "
        "Q<sup>−1</sup>R: products whose cost grows in proportion to n.",
        limits=(5, 500),
    )


def equal_to_the_eye() -> Prediction:
    """How good are the guesses?"""
    choices = ["below 20 dB", "between 20 and 60 dB", "above 90 dB"]

    def answer() -> float:
        state = race(4, SEED)
        return max(
            words.middle(metrics.compare(guess[-1], state.stage.batch.inputs).psnr)
            for guess in state.guesses.values()
        )

    return Prediction(
        "Four small photographs; the better of the two guessing attacks runs to its end. Its median PSNR is…",
        choices,
        answer,
        "Small errors in every pixel remain: the gradient of a guess is close long before the guess is right, and "
        "the steps end in a minimum near the truth or beside it.",
        limits=(20, 60),
    )


def where_it_ends() -> Prediction:
    """Where does consistency end?"""
    choices = list(EXPECTED)

    def answer() -> str:
        whole = [b for b, runs in measured("consistency", ASKED).items() if len(set(exact_share(runs))) == 1]
        largest = max(row["b"] for row in results("success_map", "map") if row["m"] == ASKED)
        return choices[0] if max(whole) < 60 else choices[2] if max(whole) == largest else choices[1]

    return Prediction(
        f"m = {ASKED}. Up to which batch size do all photographs come back exactly, without draws?",
        choices,
        answer,
        "Counting equations gives b = m/2 for one pair of layers; several coupled ones go on from there.",
    )
