"""Explorers of notebook 06.

Read the landscape (`grounds`), b = 2 (`circle`), b = 3 (`sphere`, `wells`), the whole attack (`search`); `questions`,
`exercises`. May import `spear_core` and `spear_widgets.kit`, no other notebook's folder.
"""
