"""What notebook 04 shows and calls, under one name."""

from spear_widgets.selection.runs import client_with
from spear_widgets.selection.state_picture import look
from spear_widgets.selection.stepper import Stepper, title_picture
from spear_widgets.selection.swapping import SwapExplorer
