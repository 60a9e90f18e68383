"""Cases of a test that only `make test-all` runs: `@pytest.mark.parametrize("seed", [0, *thorough(1, 2)])`."""

import pytest


def thorough(*cases: object) -> list:
    """The cases with their mark; a tuple is one case of several arguments."""
    return [
        pytest.param(*case if isinstance(case, tuple) else (case,), marks=pytest.mark.thorough)
        for case in cases
    ]
