"""Explorers of notebook 07.

Read a recorded run on 256 photographs (`wall`), guesses beside exact inversion (`races`), success and time (`reach`);
`questions`, `exercises`. May import `spear_core` and `spear_widgets.kit`, no other notebook's folder.
"""
