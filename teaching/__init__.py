"""The teacher's side: `python -m teaching` makes all of it in build/teaching; INSTRUCTORS.md says what it is for."""
