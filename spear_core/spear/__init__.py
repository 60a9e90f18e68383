"""SPEAR, the algorithm of the paper, in reading order.

`low_rank` (step 1) → `sampling` (2) → `sparsity` with `zeros` (3) → `selection` (4) → `reconstruction` (5) → `search`,
the loop, with `completion`. Steps import nothing but each other, `problem`, `tolerances` and `linalg`; only the loop
sees the certificate. Everywhere `low_rank` is the split G = L R, `pool` what was found so far, and `generator` a CPU
generator, the source of all randomness.
"""
