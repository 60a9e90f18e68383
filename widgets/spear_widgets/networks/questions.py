"""Questions of notebook 09. They stand here so that the cell does not tell the answer."""

from functools import cache

import torch

import spear_core
from spear_core.study import metrics
from spear_widgets.kit import base
from spear_widgets.kit.predict import Prediction
from spear_widgets.networks.counting import counted
from spear_widgets.networks.designs import FLOWER
from spear_widgets.networks.forming import opened
from spear_widgets.networks.norms import normalised_client


def count() -> Prediction:
    """Numbers of one photograph that pass a usual first network."""
    return Prediction(
        "A photograph has 3 × 32 × 32 = 3,072 numbers. Of these, a gradient of Flower's quick-start CNN can have "
        "taken in, at most…",
        ["about half", "just as many", "one and a half times as many", "ten times as many and more"],
        lambda: counted(FLOWER).numbers / counted(FLOWER).unknowns,
        "Behind the first pool six maps of 14 × 14 are left, 1,176 numbers, and the gradients before it have 456. All "
        "else is a function of these.",
        limits=(0.9, 1.1, 3),
    )


def forming() -> Prediction:
    """What comes back through two convolutions and two max-pools."""
    choices = ["blurred: pools lose detail", "recognisable, but not exact", "exact, and certified"]

    def answer() -> str:
        course = opened()
        if all(course.proven()):
            return choices[2]
        return choices[int(float(course.psnr[-1].median()) >= metrics.SEEN_DB)]

    return Prediction(
        "The features of three photographs are certified. Between them and the photographs stand two convolutions, "
        "two ReLUs and two max-pools. The photographs come back…",
        choices,
        answer,
        "A pool loses numbers, and the channels make up for it: 3,136 features for 784 pixels. Where they suffice, "
        "nothing is blurred.",
    )


@cache
def _of_normalised() -> float:
    """Share of the batch that comes back exactly with the running statistics."""
    client = normalised_client()
    with base.one_thread():
        found = spear_core.invert(
            client.model, client.gradients, buffers=client.after, generator=torch.Generator().manual_seed(0)
        )
    return float(metrics.compare(found.inputs, client.batch.inputs).exact.double().mean())


def statistics() -> Prediction:
    """BatchNorm with its running statistics."""
    choices = ["refused as well", "recognisable, but not exact", "all eight, exactly"]
    return Prediction(
        "Without the running statistics the attack refuses. With them, of the eight photographs come back…",
        choices,
        lambda: choices[2] if _of_normalised() == 1 else choices[1],
        "Mean and variance say what BatchNorm has taken out: the mean of the batch, and its size. With both, the "
        "gradient is turned into the one of a client whose BatchNorm stood still.",
    )
