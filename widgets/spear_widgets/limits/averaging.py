"""The stored cases of FedAvg, one a row."""

from typing import Any

from matplotlib.ticker import PercentFormatter

from spear_core.study import metrics
from spear_widgets.kit import base, drawing
from spear_widgets.kit.canvas import Canvas
from spear_widgets.kit.stored import cases


def fedavg_case(case: dict[str, Any]) -> str:
    """A stored case of FedAvg in words."""
    steps = "1 step" if case["steps"] == 1 else f"{case['steps']} steps"
    samples = f"{case['minibatch']} samples" if case["minibatch"] else "all samples"
    order = ", shuffled" if case.get("shuffled") else ""
    return f"b = {case['b']}, {steps} on {samples}{order}, lr {case['lr']:g}, {case['dtype']}"


def fedavg_shares() -> dict[str, dict[str, float]]:
    """By stored case of FedAvg: the shares of samples at 40 dB or more, at 90 dB or more, and proven."""
    shares = {}
    for case, runs in cases("limits", "fedavg"):
        psnr = [p for run in runs for p in run["psnr"]]
        shares[fedavg_case(case)] = {
            "40 dB or more": sum(p >= metrics.FOUND_DB for p in psnr) / len(psnr),
            "90 dB or more": sum(p >= metrics.EXACT_DB for p in psnr) / len(psnr),
            "proven": sum(run["certified"] for run in runs) / len(psnr),
        }
    return shares


def fedavg() -> base.Picture:
    """The stored cases of FedAvg, one a row."""
    shares = fedavg_shares()
    count, high = len(shares), 100 + 26 * len(shares)
    canvas = Canvas(drawing.WIDTH, high)
    looks = (
        ("40 dB or more", drawing.ORANGE, "^"),
        ("90 dB or more", drawing.BLUE, "o"),
        ("proven", drawing.GREEN, "D"),
    )
    least = min(0.9, *(min(case.values()) for case in shares.values())) - 0.03
    for place, (name, colour, marker) in enumerate(
        looks
    ):  # beside each other: nearly all shares are the same
        axes = canvas.axes(0.38 + 0.205 * place, 65 / high, 0.19, 1 - 105 / high)
        axes.hlines(range(count), least, 1, color="#e6e6e6", linewidth=0.8)
        axes.plot([case[name] for case in shares.values()], range(count), marker, color=colour)
        for row, case in enumerate(shares.values()):
            if case[name] < 1:  # by how much it falls short
                words = f"{case[name]:.1%} "
                axes.text(case[name] - 0.004, row, words, ha="right", va="center", fontsize=9)
        axes.set_yticks(range(count), list(shares) if place == 0 else [""] * count, fontsize=9)
        axes.set(
            xlim=(least, 1.01), ylim=(count - 0.4, -0.6), xticks=[0.9, 0.95, 1], xlabel="share of samples"
        )
        axes.set_title(name, fontsize=11, color=colour, fontweight="bold")
        axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    words = (
        "One row for each stored case of FedAvg: batch size, local steps, learning rate and number format. Three "
        "columns: the shares of samples at 40 dB or more, at 90 dB or more, and proven; nearly all are 100 per cent."
    )
    return base.Picture(canvas.image(), words)
