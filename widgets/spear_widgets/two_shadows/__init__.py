"""Explorers of notebook 06.

Read what does not move (`pictures`, `roads`), the landscape (`grounds`), b = 2 (`circle`), b = 3 (`wells`), how free
a sample is (`freedom`), the whole attack (`search`); `questions`, `exercises`. May import `spear_core` and
`spear_widgets.kit`, no other notebook's folder.
"""
