"""Explorers of notebook 04.

Read a state as a picture (`panels`, `state_picture`), the explorer (`swapping`), the `title`; `questions`, `exercises`.
The whole attack is the kit's machine. May import `spear_core` and `spear_widgets.kit`, no other notebook's folder.
"""
