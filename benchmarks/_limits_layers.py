"""Layers of fresh and trained networks of several depths and widths, each attacked on its own, b = 8.

A layer gives back *its* inputs: of the first one the photographs, of the others what the layers before made of them.
These are exact if they come back at ≥ 90 dB and so much nearer to the truth than two of them are to each other that
they can be told apart. (In a deep fresh network all samples look nearly alike from inside, so that 90 dB say little.)

Networks: fresh, as PyTorch starts them; fresh with He's start, weights √6 times as large, which keeps samples apart
at any depth; and trained from there on 200 photographs, for ten epochs, five at width 4,000, with their accuracy on
these beside.

Beside the shares stand what goes with failures: the distance of the closest two of the 8 inputs, relative to their
length, and how often the layer's gradient shows fewer than 8 of them (a rank below b).
"""

import statistics
from collections.abc import Iterator

import torch
from _common import seeded
from _limits_common import Part, outcome
from _training import train
from torch import Tensor, nn
from world.promises import stop_after

import spear_core
from spear_core import client
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.spear.low_rank import split
from spear_core.study import metrics

B = 8
SIDE = 16  # pixels
EPOCHS = 10
RATE, SLOW_RATE = 0.1, 0.02  # at 0.1, ten layers diverge, and six of width 4,000
SECONDS = 2.0  # CPU, for each layer
APART = 0.1  # error in distances of the nearest other input
NETWORKS = {"fresh": (False, False), "fresh, He start": (True, False), "trained": (True, True)}
WIDTHS = (100, 400, 1000, 4000)
DEPTHS = (2, 4, 6, 10)


def cases() -> Iterator[dict]:
    """Every width, depth and kind of network."""
    for width in WIDTHS:
        for depth in DEPTHS:
            for network in NETWORKS:
                yield {"width": width, "depth": depth, "network": network}


def measure(case: dict, seed: int, limit: float) -> dict:
    """One batch in one network, and every layer with an activation attacked."""
    he, trained = NETWORKS[case["network"]]
    batch = data.load("photos", B, size=SIDE, generator=seeded(seed))
    n = batch.inputs.shape[1]
    model = fully_connected(n, case["width"], case["depth"], generator=seeded(10_000 + seed))
    if he:
        with torch.no_grad():
            for layer in model[::2]:
                layer.weight.mul_(6**0.5)
    accuracy = None
    if trained:
        generator = seeded(20_000 + seed)
        epochs = EPOCHS if case["width"] < WIDTHS[-1] else EPOCHS // 2
        deep = case["depth"] >= (10 if case["width"] < WIDTHS[-1] else 6)
        lr = SLOW_RATE if deep else RATE
        accuracy = train(model, "photos", size=SIDE, samples=200, epochs=epochs, lr=lr, generator=generator)
    sent = client.gradients(model, batch.inputs, batch.labels)
    layers = [attacked(model, sent, batch.inputs, str(k), limit) for k in range(0, len(model) - 1, 2)]
    return {"layers": layers, "false": sum(layer["false"] for layer in layers), "accuracy": accuracy}


def attacked(model: nn.Sequential, sent: dict[str, Tensor], inputs: Tensor, name: str, limit: float) -> dict:
    """What the attack on one layer gave, and how its inputs lie."""
    with torch.no_grad():
        truth = model[: int(name)](inputs)
    distances = torch.cdist(truth.to(torch.float64), truth.to(torch.float64)).fill_diagonal_(torch.inf)
    closest = distances.amin(dim=1)
    found: list[spear_core.Inversion] = []

    def attack() -> spear_core.Inversion:
        progress = stop_after(SECONDS)
        found.append(spear_core.invert(model, sent, layer=name, time_limit=limit, progress=progress))
        return found[0]

    row = {"closest": float((closest / truth.norm(dim=1)).min())}
    row["rank"] = split(sent[f"{name}.weight"], generator=seeded(0)).batch_size
    try:
        row |= outcome(attack, truth)
    except ValueError as refusal:  # of a gradient that does not tell its batch
        return row | {"exact": 0, "certified": 0, "false": 0, "seconds": 0.0, "refused": str(refusal)[:120]}
    order = metrics.compare(found[0].inputs, truth).order
    rows = torch.cat([found[0].inputs, torch.full_like(truth[:1], torch.inf)])[order]  # row −1 is of none
    told = (rows - truth).norm(dim=1) < APART * closest
    return row | {"exact": sum(p >= metrics.EXACT_DB and t for p, t in zip(row["psnr"], told.tolist()))}


def lines(case: dict, runs: list[dict]) -> list[dict]:
    """Cells of the first, the middle and the last layer, and of all."""
    count = case["depth"] - 1
    places = {"first": [0], "middle": [count // 2], "last": [count - 1], "all": list(range(count))}
    if count == 1:
        places = {"first": [0]}
    return [case | {"layer": place, **cells(runs, at)} for place, at in places.items()]


def cells(runs: list[dict], places: list[int]) -> dict:
    """Over some layers of all runs."""
    rows = [run["layers"][place] for run in runs for place in places]
    accuracies = [run["accuracy"] for run in runs if run["accuracy"] is not None]
    return {
        "batches": len(runs),
        "exact": f"{sum(row['exact'] for row in rows) / (B * len(rows)):.1%}",
        "certified": f"{sum(row['certified'] for row in rows)}/{B * len(rows)}",
        "false": sum(row["false"] for row in rows),
        "closest two": f"{statistics.median(row['closest'] for row in rows):.1e}",
        "rank < 8": f"{sum(row['rank'] < B for row in rows)}/{len(rows)}",
        "refused": sum("refused" in row for row in rows),
        "accuracy": f"{statistics.median(accuracies):.0%}" if accuracies else "–",
        "median time": f"{statistics.median(row['seconds'] for row in rows):.2f} s",
    }


LAYERS = Part(cases, measure, lines, 10)
