"""Explorers of notebook 04.

Read the attack's generator (`runs`), a state as a picture (`panels`, `state_picture`), the explorers (`stepper`,
`swapping`); `questions`, `exercises`. May import `spear_core` and `spear_widgets.kit`, no other notebook's folder.
"""
