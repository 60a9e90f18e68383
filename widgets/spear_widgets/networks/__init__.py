"""Explorers of notebook 09.

Read the networks (`designs`), the count of what passes (`counting`), how pictures form (`forming`), a client with
BatchNorm (`norms`) and what others say beside what was measured (`claims`); `questions` and `exercises`. May import
`spear_core` and `spear_widgets.kit`, no other notebook's folder.
"""
