"""What the capstone's notebook shows and calls, under one name."""

from spear_widgets.capstone.drawn import pictures, title_picture
from spear_widgets.capstone.hand_in import hand_in
from spear_widgets.capstone.messages import message
