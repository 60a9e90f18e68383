"""What notebook 02 shows and calls, under one name."""

from spear_widgets.sparsity.dial import DialExplorer, dial_angles, zero_counts
from spear_widgets.sparsity.directions import look
from spear_widgets.sparsity.patterns import PatternExplorer, with_near_duplicate
from spear_widgets.sparsity.sphere import SphereExplorer

title_picture = SphereExplorer.still
