"""What notebook 04 shows and calls, under one name."""

from spear_widgets.kit.machine.machine import Machine
from spear_widgets.kit.twins import client_with
from spear_widgets.selection.swapping import SwapExplorer
from spear_widgets.selection.title import title_picture
