"""A progress bar that tells an honest expected time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm

from spear_core.search import State, Step
from spear_core.spear.sampling import expected_draws


@contextmanager
def reporter(progress: bool | Callable[[State], None]) -> Iterator[Callable[[State], None]]:
    """What to call with every state: nothing, a progress bar, or the caller's own function."""
    if callable(progress):
        yield progress
    elif progress:
        with tqdm(unit=" draws", unit_scale=True) as bar:
            yield lambda state: _advance(bar, state)
    else:
        yield lambda state: None


def _advance(bar: tqdm, state: State) -> None:
    remaining = expected_remaining(state)
    bar.total = None if remaining is None else int(state.samples_drawn + remaining)
    bar.set_description(f"{_found(state)} of {state.batch_size} samples", refresh=False)
    bar.update(state.samples_drawn - bar.n)  # draws the bar a few times a second, not for every state


def expected_remaining(state: State) -> float | None:
    """Draws that sampling still expects, from theory, corrected by what the draws so far have really found.

    Similar samples share zeros and are harder to tell apart, so photographs need several times the draws of
    the theory; the ratio seen so far is the best guess for the rest. None
    for other methods, which take few starts and have no theory.
    """
    if not state.method.endswith("sampling"):
        return None
    b, found = state.low_rank.batch_size, min(_found(state), state.low_rank.batch_size)
    if state.step is Step.CERTIFICATE or found == b:
        return 0.0
    so_far = expected_draws(b) - expected_draws(b, found)
    # before the first hits the ratio says little: count one expected hit as if it had been seen
    smallest = 2.0 ** (b - 1) / b
    ratio = (state.samples_drawn + smallest) / (so_far + smallest)
    return expected_draws(b, found) * max(ratio, 1.0)


def _found(state: State) -> int:
    """How many samples the search has: rows if it finds them one by one, directions if it collects those."""
    if state.step in (Step.CONSISTENCY, Step.CERTIFICATE) and state.reconstruction is not None:
        return len(state.reconstruction.coefficients)
    return int(state.pool.unique.sum())
