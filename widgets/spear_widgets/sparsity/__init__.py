"""Explorers of notebook 02.

Read `patterns`, `directions`, then all directions of a plane (`dial`) and of a sphere (`sphere`); `questions`,
`exercises`. May import `spear_core` and `spear_widgets.kit`, no other notebook's folder.
"""
