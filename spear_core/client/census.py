"""A made table like ADULT (Becker, Kohavi 1996, UCI): people in continuous and one-hot columns.

The columns, categories and rough frequencies follow the census extract that papers on tabular leakage attack; the
people are drawn from a generator, so nothing is downloaded and nobody is in it. The file `adult.data` itself is read
where it is there.
"""

import csv
from pathlib import Path

import torch
from torch import Tensor

CONTINUOUS = ("age", "fnlwgt", "education-num", "capital-gain", "capital-loss", "hours-per-week")
ONE_HOT = """
workclass: Private Self-emp-not-inc Self-emp-inc Federal-gov Local-gov State-gov ?
marital-status: Married Never-married Divorced Separated Widowed
occupation: Prof-specialty Craft-repair Exec-managerial Adm-clerical Sales Other-service Machine-op-inspct \
Transport-moving ?
relationship: Husband Not-in-family Own-child Unmarried Wife Other-relative
race: White Black Asian-Pac-Islander Amer-Indian-Eskimo Other
sex: Male Female
"""
FILE = """
age workclass fnlwgt education education-num marital-status occupation relationship race sex capital-gain capital-loss
hours-per-week native-country income
"""
CATEGORIES = {
    name: values.split() for name, _, values in (line.partition(": ") for line in ONE_HOT.split("\n")[1:-1])
}
FILE_COLUMNS = FILE.split()
COLUMNS = (*CONTINUOUS, *(f"{name}={value}" for name, values in CATEGORIES.items() for value in values))


def people(count: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """Made people: values, shape (count, n), n = 40, float64, and whether each earns much, shape (count,)."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, dtype=torch.float64, generator=generator)

    age, education = uniform(17, 90).floor(), uniform(1, 17).floor()
    gains = torch.where(uniform(0, 1) < 0.1, uniform(100, 20_000).floor(), 0.0)
    losses = torch.where(uniform(0, 1) < 0.05, uniform(200, 2_500).floor(), 0.0)
    values = [age, uniform(2e4, 5e5).floor(), education, gains, losses, uniform(5, 80).floor()]
    for names in CATEGORIES.values():
        share = 0.5 ** torch.arange(len(names), dtype=torch.float64)  # a few common, many rare
        chosen = torch.multinomial(share, count, replacement=True, generator=generator)
        values += list(torch.nn.functional.one_hot(chosen, len(names)).to(torch.float64).T)
    earns = (age / 40 + education / 6 + gains / 1e4 + uniform(-1, 1) > 4).to(torch.int64)
    return torch.stack(values, dim=1), earns


def read(path: Path) -> tuple[Tensor, Tensor]:
    """The real table from `adult.data`, in the same columns; categories that are not listed are all zero.

    Raises:
        FileNotFoundError: if it is not there.
    """
    if not path.exists():
        raise FileNotFoundError(f'{path} must be there, got no such file; "people" is made and needs none')
    with path.open(newline="") as file:
        found = [row for row in csv.DictReader(file, FILE_COLUMNS, skipinitialspace=True) if row["income"]]
    numbers = [[_number(person, *column.split("=")) for column in COLUMNS] for person in found]
    earns = [int(person["income"].startswith(">50K")) for person in found]
    return torch.tensor(numbers, dtype=torch.float64), torch.tensor(earns)


def _number(person: dict[str, str], name: str, category: str | None = None) -> float:
    if category is None:
        return float(person[name])
    # "Married" stands for all the kinds of it that the file knows
    return float(person[name].startswith(category))


def categories(rows: Tensor) -> list[dict[str, str]]:
    """The category of each row, in the columns of `COLUMNS`, in each one-hot group: the column that is largest."""
    groups = rows[:, len(CONTINUOUS) :].split([len(values) for values in CATEGORIES.values()], dim=1)
    largest = torch.stack([group.argmax(dim=1) for group in groups], dim=1).tolist()
    return [{name: CATEGORIES[name][at] for name, at in zip(CATEGORIES, person)} for person in largest]
