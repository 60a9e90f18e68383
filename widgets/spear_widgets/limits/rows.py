"""What is stored for a defence at one value of its knob."""

from functools import lru_cache
from typing import Any

from spear_core.study.defended import DEFENCES
from spear_core.study.outcomes import Measured
from spear_widgets.kit.stored import results


@lru_cache(maxsize=512)
def measured(defence: str, value: Any, part: str = "attack") -> Measured:
    """What is stored for a defence at a value.

    Args:
        defence: key of `DEFENCES`.
        value: of its knob.
        part: "attack", `spear_core.invert`; or "zeros", `spear_core.study.sparsest`, where that was measured.

    Raises:
        KeyError: no such defence.
        ValueError: nothing is stored for this value.
    """
    rows = results("defences", part), results("defences", "accuracy")
    found = Measured.of(*rows, defence=defence, value=value)
    if not found.attacks and part == "attack":
        raise ValueError(f"value must be one of {DEFENCES[defence].values}, got {value!r}")
    return found


def shown(value: Any) -> str:
    """A value of a knob, as text."""
    return f"{value:g}" if isinstance(value, float) else str(value)
