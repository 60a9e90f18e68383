"""What notebook 00 shows and calls, under one name."""

from spear_widgets.kit.machine.machine import Machine
from spear_widgets.start.full_run import FullRun
