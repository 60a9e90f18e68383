"""Explorers of notebook 03.

Read `candidate`, one after the other (`draws`), until all are met (`collecting`), the filter (`threshold`, `stages`);
`questions`, `exercises`. May import `spear_core` and `spear_widgets.kit`, no other notebook's folder.
"""
