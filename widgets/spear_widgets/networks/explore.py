"""What notebook 09 shows and calls, under one name."""

from spear_widgets.networks.claims import Claims
from spear_widgets.networks.counting import CountExplorer, counted
from spear_widgets.networks.designs import FEDAVG, FLOWER, Design, network, photo_client
from spear_widgets.networks.forming import FormingExplorer, title_picture
from spear_widgets.networks.norms import normalised_client, recovered
