"""The machine: one whole run of SPEAR, recorded, as a stage on which it is played, stepped and scrubbed.

`recorded` is the run and what the page gets of it; `machine` the explorer; `machine.js` the stage with its transport,
and a module for each of its scenes: split, draw, filter, wipe, reconstruct.
"""
