"""Labelled controls that explorers share: sliders and choices."""

from collections.abc import Sequence
from typing import Any

import ipywidgets as W

LABELLED = {"description_width": "initial"}


def slider(
    label: str, value: float, low: float, high: float, *, step: float = 1, track: float = 10
) -> W.Widget:
    """A labelled slider that reports while it moves, for whole numbers if the value is one.

    Args:
        label: before it.
        value: at first.
        low: least value.
        high: largest value.
        step: between two values.
        track: length of its track in em.
    """
    kind = W.IntSlider if isinstance(value, int) else W.FloatSlider
    layout = _slider_layout(label, track)
    return kind(value, min=low, max=high, step=step, description=label, style=LABELLED, layout=layout)


def stops(label: str, options: Sequence[Any], value: Any, *, track: float = 10) -> W.SelectionSlider:
    """A labelled slider over a few values, or (text, value) pairs."""
    texts = [str(option[0] if isinstance(option, tuple) else option) for option in options]
    layout = _slider_layout(label, track, max(map(len, texts)))
    return W.SelectionSlider(options=options, value=value, description=label, style=LABELLED, layout=layout)


def _slider_layout(label: str, track: float, readout: int = 0) -> W.Layout:
    # label and readout come first: in a box too narrow for them the track would have no length at all
    return W.Layout(width=f"{track + 0.55 * len(label) + max(6, 0.6 * readout):.1f}em", max_width="100%")


def checkbox(label: str, value: bool) -> W.Checkbox:
    """A labelled yes or no."""
    return W.Checkbox(value, description=label, indent=False, layout={"width": "auto"})


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
