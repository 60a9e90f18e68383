"""Explorers of notebook 00.

Read the whole attack at once (`full_run`), with a picture of the reader's `own`; `questions`, `exercises`. May import
`spear_core` and `spear_widgets.kit`, no other notebook's folder.
"""
