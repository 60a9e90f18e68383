"""What notebook 00 shows and calls, under one name."""

from spear_widgets.start.full_run import FullRun

title_picture = FullRun.still
