"""The front: options, how many samples there are, which searches in which order, and what came of them.

Read `invert` (the public functions and the driver), `options`, `counting` with `causes` (why a rank tells no batch),
`plan`; then what you need: `inversion` (the result), `diagnose`, `files`, `progress`, `distributed`. May import
everything but `study`; nothing below imports it.
"""
