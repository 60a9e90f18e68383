"""Explorers of notebook 05.

Read how many draws (`chances`), how many mistakes (`rejection`, `failure`), and what that costs (`wall`), over one
`ranges` of sizes; `questions`, `exercises`. May import `spear_core` and `spear_widgets.kit`, no other notebook's
folder.
"""
