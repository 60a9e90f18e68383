"""Explorers of notebook 08.

Read stored runs (`rows`) as curves (`knobs`, `averaging`) and in words (`table`), and a live attack (`defences`);
`questions`, `exercises`, and what measures a reader's own defence (`contest`). May import `spear_core` and
`spear_widgets.kit`, no other notebook's folder.
"""
