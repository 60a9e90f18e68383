"""Questions of notebook 05. They stand here so that the cell does not tell the answer."""

from spear_core.study import collecting, theory
from spear_widgets.kit.predict import Prediction
from spear_widgets.kit.stored import results
from spear_widgets.theory.chances import FACTORS
from spear_widgets.theory.wall import REACHES, YEAR, mean_by_batch_size


def one_sample_more() -> Prediction:
    """What does one sample more cost?"""
    choices = list(FACTORS)

    def measured() -> float:
        found = mean_by_batch_size("draws", "mean", lambda row: row["kind"] == "gaussian")
        return float((found[16] / found[8]) ** (1 / 8))

    return Prediction(
        "A batch of gaussian noise gets one sample more. How many draws does it take now?",
        choices,
        measured,
        "One row more must be silent, which halves the chance of a hit. Measured from b = 8 to 16 it is a factor of "
        "2.2 for each sample: the exact chance falls a little faster than 2<sup>−(b−1)</sup>.",
        limits=(1.5, 3),
    )


def limit_and_truth() -> Prediction:
    """Which way does the limit err?"""
    choices = ["too few draws", "about right", "too many draws"]

    def measured() -> float:
        rows = [r for r in results("theory", "draws") if r["kind"] == "gaussian" and r["b"] == 16]
        return theory.expected_draws(16) * len(rows) / sum(row["mean"] for row in rows)

    return Prediction(
        "b = 16, m = 400, gaussian inputs. H<sub>b</sub>·2<sup>b−1</sup> is 110,780 draws. Compared with the "
        "measurement, this is…",
        choices,
        measured,
        "Rows are drawn without replacement, and the sample with the fewest zeros is waited for. Both cost more "
        "draws, and the more the larger b is beside m.",
        limits=(1 / 1.5, 1 / 0.67),
    )


def width_and_failure() -> Prediction:
    """Is a wide layer safer?"""
    choices = ["the wide layer", "both the same", "the narrow layer"]

    def measured() -> float:
        narrow, wide = (collecting.coin_failure(8, 2 * theory.expected_draws(8), m, 0.2) for m in (50, 400))
        return wide / narrow

    return Prediction(
        "b = 8, a fixed number of draws. In which layer is the attack less likely to miss a direction: in one of 50 "
        "units or in one of 400?",
        choices,
        measured,
        "The share of zeros of a column scatters by 1/(2√m). In a narrow layer, some column is likely to have few "
        "zeros and is hit rarely, or rejected. Width helps the attacker.",
        limits=(1 / 1.2, 1.2),
    )


def larger_computer() -> Prediction:
    """How far does a thousandfold computer get?"""
    choices = list(REACHES)

    def measured() -> str:
        seconds = YEAR / 365.25
        reach = [
            max(b for b in range(1, 128) if theory.expected_draws(b) / speed < seconds)
            for speed in (1e6, 1e9)
        ]
        return (
            choices[0] if reach[1] - reach[0] < 13 else choices[1] if reach[1] < 3 * reach[0] else choices[2]
        )

    return Prediction(
        "A computer does a million draws a second and gets through batches of up to 35 in a day. Another is a thousand "
        "times as fast. Which batches does it get through?",
        choices,
        measured,
        "A thousand is 2<sup>10</sup>: ten doublings, ten samples. No computer climbs an exponential.",
    )
