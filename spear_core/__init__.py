"""Exact gradient inversion that you can step through: SPEAR and what follows from it.

>>> from spear_core import invert, invert_layer, Inversion
"""

from spear_core.attack import invert, invert_layer, states
from spear_core.inversion import Inversion

__all__ = ["Inversion", "invert", "invert_layer", "states"]
