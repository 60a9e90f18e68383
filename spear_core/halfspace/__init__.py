"""One layer in polynomial time: the zeros of a column are a half-space.

Read `search`, `confirm`, `readout`. May import `certificate`, `spear` and what lies below.
"""
