"""What notebook 06 shows and calls, under one name."""

from spear_widgets.kit.scene import ACTIVATIONS
from spear_widgets.two_shadows.circle import CircleExplorer, angles_of, on_circle, profile
from spear_widgets.two_shadows.freedom import free_directions
from spear_widgets.two_shadows.grounds import ground
from spear_widgets.two_shadows.pictures import profiles, title_picture
from spear_widgets.two_shadows.roads import roads
from spear_widgets.two_shadows.search import SearchExplorer
from spear_widgets.two_shadows.wells import WellsExplorer, descents
