"""What notebook 08 shows and calls, under one name."""

from spear_widgets.limits.averaging import fedavg, fedavg_shares
from spear_widgets.limits.defences import DefenceExplorer, title_picture
from spear_widgets.limits.knobs import curves
from spear_widgets.limits.rows import measured
from spear_widgets.limits.table import Table, numbers
