"""Whether solutions are shown. They are hidden, not locked: the package that a student runs has them."""

import os
from pathlib import Path

FOR_STUDENTS = "for-students.txt"  # a copy of the notebooks with this file beside them shows none


def are_shown() -> bool:
    """Not where SPEAR_SOLUTIONS is "hidden", as on a class's server, nor in a copy for students."""
    return os.environ.get("SPEAR_SOLUTIONS") != "hidden" and not Path(FOR_STUDENTS).exists()
