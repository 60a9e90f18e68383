"""What notebook 01 shows and calls, under one name."""

from spear_widgets.kit.machine.machine import Machine
from spear_widgets.low_rank.ghosts import GhostExplorer
from spear_widgets.low_rank.peeling import PeelExplorer
