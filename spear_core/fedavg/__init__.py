"""Updates of several local steps, inverted: zeros that survive training, and the client replayed step by step.

Read `search`, `directions`, `training`, `order`, `kinks`. May import `halfspace` and what lies below.
"""
