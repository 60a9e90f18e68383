"""The bars are what the library counts, the table is what was stored, and the exercises' cases are real networks."""

import pytest

from spear_core.front.bound import Exactness
from spear_widgets.networks import counting, questions
from spear_widgets.networks.claims import CLAIMS, SCRIPTS, Claims, measured
from spear_widgets.networks.counting import CountExplorer, counted, rows
from spear_widgets.networks.designs import FEDAVG, FLOWER, POOLS, Design, network


@pytest.fixture(scope="module")
def explorer() -> CountExplorer:
    return CountExplorer()


@pytest.fixture(autouse=True)
def from_the_start(request: pytest.FixtureRequest):
    if "explorer" in request.fixturenames:
        request.getfixturevalue("explorer").reset()


def test_flowers_network_passes_1632_numbers(explorer):
    (narrow,) = [row for row in rows(explorer.bound) if row.narrowest]
    assert (narrow.names, narrow.each, narrow.before) == ("pool 1", 6 * 14 * 14, 6 * (3 * 5 * 5 + 1))
    assert narrow.most(1) == explorer.bound.numbers == 1632 < explorer.bound.unknowns == 3 * 32 * 32
    assert explorer.bound.exactness is Exactness.CANNOT and "cannot be exact" in explorer.caption.value
    assert questions.count().measure() == "about half"


@pytest.mark.parametrize("design", [FEDAVG, Design(stride=2, pool="none"), Design(20, 3, 3, False, 4, 8)])
def test_bars_are_counted_by_hand(design: Design):
    found, model = counted(design), network(design)
    first = sum(p.numel() for p in model[0].parameters())
    side = design.side if design.padded else design.side - design.kernel + 1
    side = -(-side // design.stride)
    assert (rows(found)[0].each, rows(found)[0].before) == (design.first * side**2, first)
    assert rows(found)[-1].each == 0
    assert rows(found)[-1].before == sum(p.numel() for p in model.parameters())


def test_every_control_leads_to_a_count_or_to_words(explorer):
    for name, control in explorer.control.items():
        for option in control.options:
            value = option[1] if isinstance(option, tuple) else option
            explorer.set(**{name: value})
            assert explorer.status.value == ""
            assert (explorer.bound is None) == ("Nothing is left" in explorer.caption.value)
        explorer.reset()
    explorer.set(side=16, stride=2, padded=False)
    assert explorer.bound is None and "Nothing is left" in explorer.caption.value
    explorer.set(padded=True)
    assert explorer.bound is not None


def test_the_batch_size_is_counted_in(explorer):
    explorer.set(colours=1, side=28, first=32, second=64, padded=True)
    for b in counting.BATCHES:
        explorer.set(b=b)
        assert explorer.bound.batch_size == b
        assert (explorer.bound.exactness is Exactness.CANNOT) == (b >= explorer.bound.impossible_from)


def test_the_rank_is_asked_for_on_demand(explorer):
    explorer.set(colours=1, side=16, padded=True, first=16, second=64)
    assert explorer.bound.exactness is Exactness.UNKNOWN
    explorer.look()
    assert explorer.bound.rank == 256 and explorer.bound.exactness is Exactness.CAN
    explorer.set(b=2)
    assert explorer.bound.rank is None


def test_all_pools_are_built():
    for pool in POOLS:
        assert ("pool1" in dict(network(Design(pool=pool)).named_children())) == (pool != "none")


# ---------------------------------------------------------------- claims
@pytest.mark.parametrize("script", SCRIPTS)
def test_no_stored_certificate_is_false(script: str):
    found = measured(script)
    assert found and all(row.false == 0 and row.certified <= row.exact <= row.of for row in found)


def test_the_table_says_what_was_stored():
    table = Claims()
    text, page = repr(table), table._repr_html_()
    for claim in CLAIMS:
        assert claim.arxiv in text and claim.arxiv in page
    for script in SCRIPTS:
        for row in measured(script):
            assert " · ".join(row.cells) in text


def test_what_cannot_be_exact_was_not():
    (flower,) = [row for row in measured("networks") if row.network.startswith("Flower")]
    assert flower.exact == flower.certified == 0 and counted(FLOWER).exactness is Exactness.CANNOT
