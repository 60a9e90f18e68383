"""Tables as private data: every row back, with its categories, however many rows there are."""

import pytest
import torch

import spear_core
from spear_core import client
from spear_core.client import census, data
from spear_core.client.networks import fully_connected
from spear_core.study import metrics
from tests.core.zoo import seeded
from tests.thorough import thorough


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "people"])
@pytest.mark.parametrize("b", [8, *thorough(60)])
def test_all_rows_come_back(name, b):
    batch = data.load(name, b, generator=seeded(b))
    model = fully_connected(batch.inputs.shape[1], 400, 4, batch.classes, generator=seeded(1))
    found = spear_core.invert(model, client.gradients(model, batch.inputs, batch.labels))
    score = metrics.compare(found.inputs, batch.inputs)
    assert score.exact.all()
    if name == "people":
        assert census.categories(found.inputs[score.order]) == census.categories(batch.inputs)


def test_people_are_one_of_each_category_and_the_same_for_everybody():
    batch = data.load("people", 50, generator=seeded(2), dtype=torch.float64)
    assert batch.inputs.shape == (50, len(census.COLUMNS)) and batch.columns == census.COLUMNS
    chosen = batch.inputs[:, len(census.CONTINUOUS) :]
    assert ((chosen == 0) | (chosen == 1)).all()
    assert (chosen.sum(dim=1) == len(census.CATEGORIES)).all()
    again = data.load("people", 50, generator=seeded(2), dtype=torch.float64)
    assert torch.equal(again.inputs, batch.inputs) and torch.equal(again.labels, batch.labels)
    age = batch.original(batch.inputs)[:, 0]
    assert ((age >= 17) & (age <= 90)).all()
    assert 0 < batch.labels.float().mean() < 1


def test_the_real_file_is_read_where_it_is(tmp_path):
    lines = [
        "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, "
        "2174, 0, 40, United-States, <=50K",
        "52, Self-emp-inc, 287927, HS-grad, 9, Married-civ-spouse, Exec-managerial, Wife, White, Female, "
        "15024, 0, 40, United-States, >50K",
    ]
    (tmp_path / "adult.data").write_text("\n".join(lines) + "\n\n")
    batch = data.load("adult", 2, root=tmp_path, standardize=False, generator=seeded())
    first = int(batch.labels.argmin())
    assert sorted(batch.labels.tolist()) == [0, 1]
    assert batch.inputs[first, : len(census.CONTINUOUS)].tolist() == [39, 77516, 13, 2174, 0, 40]
    assert census.categories(batch.inputs)[first]["occupation"] == "Adm-clerical"
    assert census.categories(batch.inputs)[1 - first]["marital-status"] == "Married"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"adult\.data must be there"):
        data.load("adult", 2, root=tmp_path)
