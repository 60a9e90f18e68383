"""How yours is related to wanted: each relation is found where it holds, and no other is claimed."""

import numpy as np
import pytest
import torch

from spear_widgets.kit.compare import as_tensor, close, shape_hint
from spear_widgets.kit.relation import observe, relation

GENERATOR = torch.Generator().manual_seed(5)
TABLES = [torch.rand(n, n + k, generator=GENERATOR).double() + 0.1 for n, k in ((2, 0), (3, 2), (4, 1))]
SQUARES = [torch.randn(n, n, generator=GENERATOR).double() for n in (2, 3, 4)]
NUMBERS = [torch.tensor(x, dtype=torch.float64) for x in (0.2, 0.35, 0.9)]
GIVEN = [{"x": torch.arange(1.0, n + 2), "count": 10 * n, "names": [0] * (n + 5)} for n in (2, 3, 4)]
LENGTHS = [float(given["x"].norm()) for given in GIVEN]

RELATIONS = [
    ("the negative", TABLES, lambda a, i: -a),
    ("one minus", NUMBERS, lambda a, i: 1 - a),
    ("the magnitude", SQUARES, lambda a, i: a.abs()),
    ("Yours is the square of", TABLES, lambda a, i: a**2),
    ("square root", NUMBERS, lambda a, i: a.sqrt()),
    ("upside down", TABLES, lambda a, i: 1 / a),
    ("Yours is the logarithm", TABLES, lambda a, i: a.log()),
    ("What is wanted is the logarithm", TABLES, lambda a, i: a.exp()),
    ("opposite order", TABLES, lambda a, i: a.flip(0)),
    ("transpose", SQUARES, lambda a, i: a.T),
    ("another order", TABLES, lambda a, i: a.flatten().sort().values.reshape(a.shape)),
    ("off by one in every case: too large", NUMBERS, lambda a, i: a + 1),
    ("off by 0.5 in every case: too small", TABLES, lambda a, i: a - 0.5),
    ("2.5 times", TABLES, lambda a, i: 2.5 * a),
    ("100 times", NUMBERS, lambda a, i: 100 * a),
    ("times `count`", NUMBERS, lambda a, i: a * GIVEN[i]["count"]),
    ("divided by `x.shape[0]`", TABLES, lambda a, i: a / len(GIVEN[i]["x"])),
    ("divided by the root of `x.shape[0]`", TABLES, lambda a, i: a / len(GIVEN[i]["x"]) ** 0.5),
    ("times the number of entries of `names`", NUMBERS, lambda a, i: a * len(GIVEN[i]["names"])),
    ("times the length (norm) of `x`", NUMBERS, lambda a, i: a * LENGTHS[i]),
    ("divided by the square of the length (norm) of `x`", NUMBERS, lambda a, i: a / LENGTHS[i] ** 2),
    ("another factor in each case", TABLES, lambda a, i: a * (0.77, 1.9, 3.1)[i]),
    ("to 6 digits only", TABLES, lambda a, i: a * (1 + 8e-7)),
    ("to 3 digits only", TABLES, lambda a, i: a.half().double()),
]


@pytest.mark.parametrize(("words", "wanted", "slip"), RELATIONS, ids=[words for words, *_ in RELATIONS])
def test_a_relation_is_found(words: str, wanted: list[torch.Tensor], slip):
    found = relation([(a, slip(a, i)) for i, a in enumerate(wanted)], GIVEN)
    assert found is not None and words in found, found


def test_a_relation_must_hold_in_all_cases():
    assert relation([(TABLES[0], -TABLES[0]), (TABLES[1], TABLES[1] + 1)], GIVEN[:2]) is None
    assert relation([(a, a * f) for a, f in zip(NUMBERS, (0.77, 1.9, 3.1))], GIVEN) is None
    assert relation([(a, torch.rand(a.shape, generator=GENERATOR)) for a in TABLES], GIVEN) is None
    assert relation([], []) is None and relation([(TABLES[0], TABLES[0] / 0)], GIVEN[:1]) is None


def test_nothing_is_any_multiple_of_nothing():
    zero = torch.zeros(())
    pairs = [(NUMBERS[0], 3 * NUMBERS[0]), (zero, zero), (NUMBERS[1], 3 * NUMBERS[1])]
    assert relation(pairs, GIVEN) == "Yours is 3 times what is wanted, in every case."


@pytest.mark.parametrize(
    ("words", "yours", "right"),
    [
        ("not a finite number for “b”", [NUMBERS[0], NUMBERS[1] / 0, NUMBERS[2]], [True, False, True]),
        ("same in every case", [NUMBERS[2]] * 3, [False, False, True]),
        (
            "Right in 1 of 3 cases, wrong for “b”, “c”",
            [NUMBERS[0], NUMBERS[2], NUMBERS[0]],
            [True, False, False],
        ),
        ("too large in every case", [NUMBERS[0] + 3, NUMBERS[1] + 9, NUMBERS[2] + 5], [False] * 3),
        ("too small in every case", [NUMBERS[0] - 3, NUMBERS[1] - 9, NUMBERS[2] - 5], [False] * 3),
        ("some places", [NUMBERS[0] - 3, NUMBERS[1] + 9, NUMBERS[2] - 5], [False] * 3),
    ],
)
def test_something_is_seen_of_every_answer(words: str, yours: list[torch.Tensor], right: list[bool]):
    assert words in observe("abc", list(zip(NUMBERS, yours)), right)


def test_the_first_wrong_entry_is_named():
    yours = torch.tensor([1.0, 2.0, 7.0, 4.0])
    said = observe(["a"], [(torch.tensor([1.0, 2.0, 3.0, 4.0]), yours)], [False])
    assert "3 of 4 entries are right" in said and "number 2: wanted 3, yours 7" in said


THIRD = torch.tensor([1 / 3, 2 / 3], dtype=torch.float64)


@pytest.mark.parametrize(
    "yours",
    [
        THIRD.float(),
        THIRD.half(),
        THIRD.bfloat16(),
        THIRD.numpy(),
        THIRD.numpy().astype(np.float32),
        THIRD.tolist(),
        tuple(THIRD.float().tolist()),
        list(THIRD),
        list(THIRD.numpy().astype(np.float32)),
        THIRD.clone().requires_grad_(),
        [torch.tensor(1 / 3), 2 / 3],
    ],
)
def test_right_is_right_to_the_precision_of_its_type(yours):
    assert close(THIRD, yours)


@pytest.mark.parametrize(
    "yours",
    [
        THIRD * (1 + 1e-6),
        THIRD.float() * (1 + 1e-3),
        THIRD.half() * 1.02,
        THIRD.tolist()[:1],
        THIRD[:, None],
        THIRD * float("nan"),
        THIRD + 0j,
        {"a": 1},
        "text",
        None,
    ],
)
def test_wrong_is_wrong(yours):
    assert not close(THIRD, yours)


def test_whole_numbers_are_exact():
    assert close(10**6, 10**6) and close(10**6, 1e6) and close(4, torch.tensor(4)) and close(4, np.int64(4))
    assert not close(10**6, 10**6 + 1) and not close(10**6, 1e6 + 0.5)


def test_a_float_may_have_been_computed_in_32_bits():
    assert close(0.49, float(np.float32(0.49))) and close(0.49, torch.tensor(0.49).item())
    assert not close(0.49, 0.4901)


def test_several_results_are_compared_one_by_one():
    one = (torch.zeros(2), torch.ones(3, 3), 5)
    assert close(one, [torch.zeros(2), np.ones((3, 3)), 5])
    assert not close(one, (torch.zeros(2), torch.ones(3, 3), 6)) and not close(one, one[:2])
    assert shape_hint(one, torch.zeros(2)) == "Return a tuple; yours is of type Tensor."


def test_infinities_are_equal_and_rows_of_lists_are_tables():
    assert close(float("inf"), float("inf")) and not close(1.0, float("inf"))
    assert as_tensor([[1, 2], [3, 4]]).shape == (2, 2) and as_tensor([[1, 2], [3]]) is None
    assert as_tensor(10**400) is None and as_tensor([]).shape == (0,)
