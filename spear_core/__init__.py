"""Exact gradient inversion that you can step through: SPEAR and what follows from it.

>>> import spear_core
>>> spear_core.__all__
['Diagnosis', 'Inversion', 'diagnose', 'invert', 'invert_layer', 'states']
"""

from spear_core.attack import invert, invert_layer, states
from spear_core.diagnose import Diagnosis, diagnose
from spear_core.inversion import Inversion

__all__ = ["Diagnosis", "Inversion", "diagnose", "invert", "invert_layer", "states"]
