"""Questions of notebook 04. They stand here so that the cell does not tell the answer."""

import spear_core
from spear_core.certificate.record import Part
from spear_core.spear.reconstruction import reconstruct
from spear_core.study.metrics import compare
from spear_widgets.kit.predict import Prediction
from spear_widgets.kit.scene import scene
from spear_widgets.kit.twins import client_with
from spear_widgets.selection.swapping import SEED, swaps

GHOST = "Seven sharp photographs; in second place, two at once."  # what the picture shows, which the cell must not tell
TWIN_BATCH = ("photos", 4, 200, 3, "same")


def start_by_zeros() -> Prediction:
    """Is the greedy start already right?"""
    far, near, right = choices = ["at most two of them", "most, not all", "all of them"]

    def measured() -> str:
        found = swaps(scene("photos", 8, seed=SEED), 0)
        same = len(set(found[0].chosen) & set(found[-1].chosen))
        return right if same == 8 else far if same <= 2 else near

    return Prediction(
        "A pool holds the eight right directions and more mixtures. You take the ones with the most zeros, as long as "
        "they are independent and nothing else fits their zeros. How many of the eight do you get?",
        choices,
        measured,
        "A mixture is zero only where all its samples are, so it has fewer zeros than each of them. "
        "Where a sample has few zeros this can fail, and swaps put it right.",
    )


def one_wrong_direction() -> Prediction:
    """What does one wrong direction do to the batch?"""
    choices = ["none", "one", "two", "all eight"]

    def measured() -> str:
        stage = scene("photos", 8, seed=SEED)
        directions = stage.true_directions.clone()
        directions[:, 0] = directions[:, 0] + 0.5 * directions[:, 1]
        directions[:, 0] /= directions[:, 0].norm()
        score = compare(reconstruct(stage.forward, directions).inputs, stage.batch.inputs)
        return dict(enumerate(choices[:3])).get(int((~score.exact).sum()), choices[3])

    return Prediction(
        "Seven of eight directions are right. In the place of q<sub>1</sub> stands a mixture of q<sub>1</sub> and "
        "q<sub>2</sub>. How many of the eight photographs come out wrong?",
        choices,
        measured,
        "Row i of Q<sup>−1</sup> is orthogonal to all directions but q<sub>i</sub>. For row 1 these are all right, so "
        "photograph 1 is right; row 2 is orthogonal to the mixture instead of q<sub>1</sub>, so photograph 2 is wrong.",
    )


def proof_by_lambda() -> Prediction:
    """Is λ = 1 a proof?"""
    yes, no = choices = ["yes: every zero is explained", "no: a wrong batch can have λ = 1, too"]

    def measured() -> str:
        stage = client_with(*TWIN_BATCH)
        *_, last = spear_core.states(stage.problem, method="sampling", max_samples=4_000)
        assert last.certificate is not None
        parts = last.certificate.parts
        return no if parts[Part.GRADIENT] and parts[Part.ZEROS] and not last.certified else yes

    return Prediction(
        "The recovered batch reproduces the gradient to rounding, and λ = 1. Is it the private batch?",
        choices,
        measured,
        "Two samples with the same activation pattern can be mixed freely: no zero moves, and the product stays G.",
    )
