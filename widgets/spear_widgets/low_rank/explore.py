"""What notebook 01 shows and calls, under one name."""

from spear_widgets.low_rank.ghosts import GhostExplorer
from spear_widgets.low_rank.peeling import PeelExplorer, title_picture
