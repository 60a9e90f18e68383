"""Draws measured for batches of noise, photographs and digits, beside what fair coins predict."""

from spear_core.study import collecting, theory
from spear_widgets.kit import base, drawing
from spear_widgets.kit.charts import Chart, Style
from spear_widgets.kit.ribbon import NOT_IN_PAPER
from spear_widgets.theory.wall import mean_by_batch_size

SIZES, WIDTH = (4, 8, 12, 16), 400
COINS = f"range for fair coins {NOT_IN_PAPER}"
KINDS = {
    "gaussian": Style("gaussian noise", drawing.BLUE, marker="o"),
    "photos": Style("photographs", drawing.ORANGE, marker="s"),
    "digits": Style("digits", drawing.GREEN, marker="^"),
}


def means(kind: str) -> dict[int, float]:
    """Geometric mean of the stored draws of a kind, by batch size."""
    found = mean_by_batch_size("draws", "mean", lambda row: row["kind"] == kind and row["m"] == WIDTH)
    return {b: found[b] for b in SIZES}


def ranges() -> base.Picture:
    """Draws over H_b · 2^(b−1): measured means, and the range of most batches whose zeros are fair coins."""
    chart = Chart(
        [Style(COINS, drawing.FAINT, marker="_"), *KINDS.values()],
        yscale="log",
        xlim=(2, 18),
        ylim=(0.7, 14),
        xlabel="batch size b",
        ylabel="draws / (H_b · 2^(b−1))",
    )
    chart.axes.axhline(1, color=drawing.INK, linewidth=0.8, linestyle="--")
    limit = {b: theory.expected_draws(b) for b in SIZES}
    ends = [tuple(end / limit[b] for end in collecting.predicted_range(b, WIDTH)) for b in SIZES]
    chart.put(COINS, SIZES, [(low * high) ** 0.5 for low, high in ends], [(low, high) for low, high in ends])
    for shift, (kind, style) in enumerate(KINDS.items(), start=1):
        found = means(kind)
        chart.put(style.label, [b + 0.25 * shift for b in SIZES], [found[b] / limit[b] for b in SIZES])
    return base.Picture(
        chart.on_paper(),
        "Draws over their limit, for batches of 4, 8, 12 and 16, on a logarithmic scale. A bar shows the range for "
        "fair "
        "coins, which lies above the limit for larger batches. Noise lies inside it; photographs are above it for "
        "small "
        "batches, digits for all.",
    )
