"""What notebook 05 shows and calls, under one name."""

from spear_widgets.theory.chances import OddsExplorer, private_grads
from spear_widgets.theory.failure import FailureExplorer, failures
from spear_widgets.theory.ranges import ranges
from spear_widgets.theory.rejection import RejectionExplorer
from spear_widgets.theory.wall import WallExplorer, title_picture
