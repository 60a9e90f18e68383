"""What notebook 02 shows and calls, under one name."""

from spear_widgets.kit.base import Picture
from spear_widgets.kit.riddle import riddle
from spear_widgets.kit.scene import scene
from spear_widgets.sparsity.dial import DialExplorer, dial_angles, zero_counts
from spear_widgets.sparsity.directions import look
from spear_widgets.sparsity.patterns import PatternExplorer, with_near_duplicate
from spear_widgets.sparsity.sphere import SphereExplorer


def title_picture() -> Picture:
    """The factor L of a batch of three, which hides its zeros."""
    factor = scene("photos", 3, 200).low_rank.factor
    words = "The factor L of three photographs, one column a unit: mixed so that almost no entry is zero."
    return riddle(factor.T, words)
