"""Exact gradient inversion that you can step through: SPEAR and what follows from it.

>>> import spear_core
>>> spear_core.__all__
['Diagnosis', 'Inversion', 'diagnose', 'invert', 'invert_layer', 'states']
"""

from spear_core.attack.diagnose import Diagnosis, diagnose
from spear_core.attack.inversion import Inversion
from spear_core.attack.invert import invert, invert_layer, states

__all__ = ["Diagnosis", "Inversion", "diagnose", "invert", "invert_layer", "states"]
