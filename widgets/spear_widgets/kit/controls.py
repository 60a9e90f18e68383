"""Labelled controls that explorers share: sliders and choices."""

from collections.abc import Sequence
from typing import Any

import ipywidgets as W

LABELLED = {"description_width": "initial"}


def int_slider(
    label: str, value: int, low: int, high: int, *, step: int = 1, track: float = 10
) -> W.IntSlider:
    """A labelled slider that reports while it moves; `track` is the length of its track in em."""
    return W.IntSlider(
        value, low, high, step, description=label, style=LABELLED, layout=_slider_layout(label, track)
    )


def float_slider(
    label: str,
    value: float,
    low: float,
    high: float,
    *,
    step: float,
    track: float = 10,
    readout_format: str = ".2f",
) -> W.FloatSlider:
    """A labelled slider for numbers that are not whole."""
    return W.FloatSlider(
        value=value,
        min=low,
        max=high,
        step=step,
        description=label,
        style=LABELLED,
        layout=_slider_layout(label, track),
        readout_format=readout_format,
    )


def _slider_layout(label: str, track: float) -> W.Layout:
    # label and readout come first: in a box too narrow for them the track would have no length at all
    return W.Layout(width=f"{track + 0.55 * len(label) + 6:.1f}em", max_width="100%")


def dropdown(label: str, options: Sequence[Any], value: Any = None) -> W.Dropdown:
    """A labelled choice; options are values or (text, value) pairs."""
    first = options[0][1] if isinstance(options[0], tuple) else options[0]
    return W.Dropdown(
        options=options,
        value=first if value is None else value,
        description=label,
        style=LABELLED,
        layout=W.Layout(width="auto", max_width="100%"),
    )
