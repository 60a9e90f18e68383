"""What notebook 07 shows and calls, under one name."""

from spear_widgets.scale.races import SEED, RaceExplorer, race, small_scene
from spear_widgets.scale.reach import METHODS, WIDTHS, ReachExplorer, exact_share, measured, whole_up_to
from spear_widgets.scale.wall import WallExplorer, record, title_picture
