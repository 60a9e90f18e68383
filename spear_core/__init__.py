"""Exact gradient inversion that you can step through: SPEAR and what follows from it.

>>> import spear_core
>>> spear_core.__all__
['Diagnosis', 'Inversion', 'diagnose', 'invert', 'invert_layer', 'states']

The public names are loaded when they are first asked for (PEP 562), and with them what they need.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spear_core.attack.diagnose import Diagnosis, diagnose
    from spear_core.attack.inversion import Inversion
    from spear_core.attack.invert import invert, invert_layer, states

__version__ = "1.0.0"
__all__ = ["Diagnosis", "Inversion", "diagnose", "invert", "invert_layer", "states"]

_PLACES = {
    "diagnose": ("Diagnosis", "diagnose"),
    "inversion": ("Inversion",),
    "invert": ("invert", "invert_layer", "states"),
}


def __getattr__(name: str) -> object:
    """One of the public names, which stays once it has been loaded."""
    for module, names in _PLACES.items():
        if name in names:
            globals()[name] = getattr(import_module(f"spear_core.attack.{module}"), name)
            return globals()[name]
    raise AttributeError(f"module 'spear_core' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
