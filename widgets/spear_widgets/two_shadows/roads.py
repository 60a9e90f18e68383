"""What a batch costs without draws, as stored, beside what drawing would."""

import statistics

from spear_core.study import theory
from spear_widgets.kit.stored import results

SIZES, SPEED, DAY = (16, 32, 64, 128), 1e6, 86400.0


def roads() -> str:
    """A line for each batch size: median CPU seconds, how many batches were certified, and the days of drawing."""
    rows = [row for row in results("theory", "roads") if row["method"] == "consistency"]
    lines = []
    for b in SIZES:
        runs = [row for row in rows if row["b"] == b]
        seconds = statistics.median(row["seconds"] for row in runs)
        certified = sum(row["certified"] for row in runs)
        days = theory.expected_draws(b) / SPEED / DAY
        lines.append(
            f"b = {b:3}: {seconds:3.1f} s, {certified} of {len(runs)} batches certified; drawing: {days:.0e} days"
        )
    return "\n".join(lines)
