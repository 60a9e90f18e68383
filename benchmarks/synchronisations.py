"""How often a GPU would hold up the host: in each walk, and in the rounds of each search.

Runs on any machine: the attacks run on the fake device of `tests/device`, which counts what would wait on CUDA. Every
number is a count, so none depends on how fast the machine is.
"""

import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from _common import table

from tests.device.cases import CASES
from tests.device.counting import WALKS, most, rounds, waits_of

NAMED = 6  # places of a search that are shown, those that wait most often


def searches() -> str:
    """The counts of all attacks."""
    heads = ("method", "rounds", "until the first is over", "longest of the others", "after them", "uploads")
    rows, places = [], []
    for name, make in CASES.items():
        _, seen = rounds(make())
        first, later, after = most(seen)
        uploads = sum(one.uploads.total() for one in seen)
        count = sum(one.step == seen[0].step for one in seen)
        rows.append((name, count, first.total(), later.total() if count > 1 else "", after.total(), uploads))
        places.append((name, _named(later or first)))
    return f"{table(heads, rows)}\n\n{table(('method', 'where a round waits'), places)}"


def _named(waits: Counter[str]) -> str:
    return ", ".join(f"{count} × {place}" for place, count in waits.most_common(NAMED))


def walks() -> str:
    """The counts of all walks."""
    return table(
        ("walk", "waits", "where"),
        ((name, (w := waits_of(walk)).total(), _named(w)) for name, walk in WALKS.items()),
    )


if __name__ == "__main__":
    print(walks(), searches(), sep="\n\n")
