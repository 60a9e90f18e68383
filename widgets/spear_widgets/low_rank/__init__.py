"""Explorers of notebook 01.

Read the gradient as a sum of outer products (`peeling`), and the Q that its split leaves open (`ghosts`);
`questions`, `exercises`. May import `spear_core` and `spear_widgets.kit`, no other notebook's folder.
"""
