"""Random worlds: nothing is certified that is not exact, and nothing but typed errors comes out.

`benchmarks/certificate.py` runs ten thousand of them and says of each what it is made of; here are the first.
"""

import pytest
import torch

from benchmarks.world import trial
from benchmarks.world.draw import draw
from tests.thorough import thorough

LIMIT = 0.1  # CPU seconds of attack a world


def check(seeds: range, **options: object) -> None:
    """Nothing is wrong with these worlds; or what is, a line for each."""
    rows = [trial.run(seed, limit=LIMIT, **options) for seed in seeds]
    wrong = [row for row in rows if row["false"] or row["violations"]]
    assert not wrong, "\n".join(
        f"{row['seed']}: {row['false'] + row['violations']} {row['words']}" for row in wrong
    )


@pytest.mark.parametrize("block", [0, *thorough(1, 2, 3, 4)])
def test_what_is_certified_is_a_sample_and_promises_are_kept(block: int):
    check(range(25 * block, 25 * (block + 1)))


def test_samples_that_resemble_each_other_are_certified_only_if_exact():
    check(range(25), alike=True)


@pytest.mark.parametrize(
    "seed",
    [
        4001556,
        4005586,
        4008892,
        5000192,
        5000953,
        5006753,
        5009274,
        6002692,
        6004793,
        7000893,
        8002748,
        8004723,
        8005882,
        8008492,
        9000829,
        9002907,
    ],
)
def test_worlds_that_were_once_wrong(seed: int):
    """One sample of either sign; dependent directions; mixtures with many units; a stop not heeded; no numbers."""
    row = trial.run(seed, limit=0.3)
    assert not row["false"] and not row["violations"], row


@pytest.mark.thorough
@pytest.mark.parametrize("block", range(20))
def test_much_more_of_the_same(block: int):
    check(range(1_000 + 30 * block, 1_000 + 30 * (block + 1)), alike=block % 3 == 2)


def test_a_seed_is_a_world():
    first, second = (draw(7) for _ in range(2))
    assert first.words == second.words
    assert all(torch.equal(grad, second.gradients[name]) for name, grad in first.gradients.items())
    assert draw(8).words != first.words


def test_drawing_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    draw(3)
    assert torch.equal(torch.get_rng_state(), state)
