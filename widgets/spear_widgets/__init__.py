"""Explorers of the notebooks: state, layout and drawing. Every number shown comes from `spear_core`.

A star: `kit` holds what several notebooks share, and each notebook has a folder that imports the kit and no other
notebook's folder. In the notebooks' order: start, low_rank, sparsity, sampling, selection, scale, theory, two_shadows,
limits, capstone. On top stand `course` (all exercises), `progress` (which are solved), `copies` (a reader's own
notebooks), `grading` (one notebook's answers) and `grades` (a class's).
"""

import os

# ipywidgets sends each value that the page sets back to it, for pages that several people share; that costs
# every slider move some 7 ms. It looks at this when it is imported.
os.environ.setdefault("JUPYTER_WIDGETS_ECHO", "0")
