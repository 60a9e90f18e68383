"""The stored cases of FedAvg, one a row."""

from typing import Any

from matplotlib.ticker import PercentFormatter

from spear_core.study import metrics
from spear_widgets.kit import base, drawing
from spear_widgets.kit.canvas import Canvas
from spear_widgets.kit.stored import cases
from spear_widgets.limits.knobs import _legend


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
    axes = canvas.axes(0.44, 80 / high, 0.53, 1 - 95 / high)
    looks = {
        "40 dB or more": (drawing.ORANGE, "^"),
        "90 dB or more": (drawing.BLUE, "o"),
        "proven": (drawing.GREEN, "x"),
    }
    for shift, (name, (colour, marker)) in zip((-0.22, 0.0, 0.22), looks.items()):
        heights = [row + shift for row in range(count)]  # so that equal shares do not cover each other
        axes.plot([case[name] for case in shares.values()], heights, marker, color=colour, label=name)
    axes.set_yticks(range(count), list(shares), fontsize=9)
    least = min(0.9, *(min(case.values()) for case in shares.values()))
    axes.set(xlim=(least - 0.005, 1.005), ylim=(count - 0.4, -0.6), xlabel="share of samples")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axes.grid(color="#e6e6e6", linewidth=0.6)
    canvas.figure.legend(*_legend(axes), loc="lower center", ncols=3, fontsize=9, frameon=False)
    words = (
        "One row for each stored case of FedAvg: batch size, local steps, learning rate and number format; in it the "
        "shares of samples at 40 dB or more, at 90 dB or more, and proven."
    )
    return base.Picture(canvas.image(), words)
