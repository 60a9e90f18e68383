"""Stored runs of the defences: rows, curves, lines and verdicts, against plain counts over the file."""

import json
import statistics

import numpy as np
import pytest

from spear_core.study import metrics
from spear_core.study.defended import DEFENCES
from spear_core.study.outcomes import Measured
from spear_widgets.kit import stored
from spear_widgets.limits import averaging, knobs
from spear_widgets.limits.rows import measured
from spear_widgets.limits.table import Table, numbers, verdict
from tests.widgets.kit.labels import boxes, touching

ATTACKS = stored.results("defences", "attack")


def plain_rows(name: str, value: object) -> list[dict]:
    return [row for row in ATTACKS if row["defence"] == name and row["value"] == value]


def test_every_value_of_every_defence_was_measured_ten_times():
    assert len(ATTACKS) == 10 * sum(len(defence.values) for defence in DEFENCES.values())
    for name, defence in DEFENCES.items():
        for value in defence.values:
            found = measured(name, value)
            assert list(found.attacks) == plain_rows(name, value) and len(found.attacks) == 10
            psnr = [p for row in found.attacks for p in row["psnr"]]
            assert found.count(40.0) == (len([p for p in psnr if p >= 40.0]), len(psnr))
            assert found.median == statistics.median(psnr)
    for row in stored.results("defences", "accuracy"):
        assert measured(row["defence"], row["value"]).accuracy > 0.1
    assert measured("labels", 1).accuracy is None


def test_zeros_alone_were_stored_where_the_zeros_move():
    kinds = {row["defence"] for row in stored.results("defences", "zeros")}
    assert kinds == {"steps", "lr", "minibatch", "dropout"}
    for key in kinds:
        assert all(len(measured(key, value, "zeros").attacks) == 10 for value in DEFENCES[key].values)
    assert measured("noise", 1.0, "zeros").attacks == ()
    assert all(row["certified"] == 0 for row in stored.results("defences", "zeros"))


def test_what_is_not_stored_is_refused():
    with pytest.raises(ValueError, match=r"value must be one of .*, got 0\.123"):
        measured("noise", 0.123)


def test_cases_are_the_rows_by_their_keys():
    cases = stored.cases("limits", "fedavg")
    assert sum(len(runs) for _, runs in cases) == len(stored.results("limits", "fedavg"))
    assert len({json.dumps(case) for case, _ in cases}) == len(cases)
    shares = averaging.fedavg_shares()
    for case, runs in cases:
        share = shares[averaging.fedavg_case(case)]
        psnr = np.array([p for run in runs for p in run["psnr"]])
        assert share["90 dB or more"] == (psnr >= 90).mean() <= share["40 dB or more"]
        assert share["proven"] * len(psnr) == pytest.approx(sum(run["certified"] for run in runs))


def row(psnr: float, refused: str = "", seconds: float = 0.1) -> dict:
    shared = {"certified": 0, "false": 0, "refused": refused, "seconds": seconds}
    return {"defence": "noise", "psnr": [psnr] * 8, **shared}


@pytest.mark.parametrize(
    ("heights", "options", "words"),
    [
        ([150, 150, 150], {}, "no: 8 of 8 recognisable at every value"),
        ([150, 60, 30], {}, "no: 8 of 8 recognisable at every value"),
        ([150, 30, 10], {}, "yes, at 3: 0 of 8 recognisable"),
        ([150, 10, -99], {}, "yes, from 2 on: 0 of 8 recognisable"),
        ([150, 10, 150], {}, "yes, at 2: 0 of 8 recognisable"),
        ([150, 30, -99], {"seconds": 2.1}, "unproven, at 3: time ran out"),
        (
            [150, -99, -99],
            {"seconds": 2.1, "zeros": [99, 99, 99]},
            "no: 8 of 8 recognisable at every value, by zeros alone",
        ),
        ([150, -99, -99], {"zeros": [9, 99, 9]}, "yes, at 3: 0 of 8 recognisable"),
        ([150, 30, -99], {"refused": "no"}, "unproven, at 3: refused, or only a later layer came back"),
    ],
)
def test_verdicts_say_what_the_rows_say(monkeypatch, heights, options, words):
    defence = DEFENCES["noise"]
    values = (1, 2, 3)
    monkeypatch.setitem(DEFENCES, "noise", type(defence)("n", "k", values, defence.send))
    zeros = options.pop("zeros", None)
    rows = {(v, "attack"): Measured.of((row(p, **options),), ()) for v, p in zip(values, heights)}
    rows |= {
        (v, "zeros"): Measured.of((row(p),) if zeros else (), ()) for v, p in zip(values, zeros or heights)
    }
    monkeypatch.setattr(
        "spear_widgets.limits.table.measured", lambda key, value, part="attack": rows[value, part]
    )
    judged = verdict("noise")
    assert judged.protects == words and judged.cost == "not measured"


def test_the_table_has_every_defence_and_no_yes_where_samples_were_seen():
    table = Table()
    assert [v.name for v in table.verdicts] == [d.name for d in DEFENCES.values()]
    for key, found in zip(DEFENCES, table.verdicts):
        if found.protects.startswith("yes"):
            assert any(measured(key, v).share(metrics.SEEN_DB) == 0 for v in DEFENCES[key].values)
            assert not measured(key, DEFENCES[key].values[-1], "zeros").attacks
        assert found.protects.split(",")[0].split(":")[0] in ("yes", "almost", "no", "unproven")
    assert table._repr_html_().count("<tr>") == len(DEFENCES) + 1


@pytest.mark.parametrize(("key", "first"), [("batch", 8), ("clients", 1), ("width", 400), ("noise", None)])
def test_accuracy_is_compared_with_the_same_network(key: str, first: int | None):
    plain = measured("format", "float32") if first is None else measured(key, first)
    assert f"instead of {plain.accuracy:.1%}" in verdict(key).cost


@pytest.mark.parametrize("key", DEFENCES)
def test_lines_hold_one_number_for_each_value(key: str):
    name, *lines = numbers(key).splitlines()
    assert name == DEFENCES[key].name
    assert len(lines) == 5 if measured(key, DEFENCES[key].values[0]).networks else 4
    assert max(map(len, lines)) <= 100
    for value, exact in zip(DEFENCES[key].values, lines[1].split()[1:]):
        assert exact == f"{measured(key, value).share():.0%}"


@pytest.mark.parametrize(
    "keys",
    [
        *((key,) for key in DEFENCES),
        ("batch", "clients", "width", "activation"),
        ("dropout", "norm", "hidden"),
    ],
    ids="-".join,
)
def test_no_labels_touch_and_none_leaves_the_picture(keys):
    canvas = knobs.Curves(*keys).canvas if len(keys) == 1 else knobs.side_by_side(keys)
    assert len(boxes(canvas)) > 10
    assert touching(canvas) == []


def test_labels_that_touch_are_found():
    canvas = knobs.side_by_side(("noise",))
    canvas.figure.text(0.5, 0.5, "first")
    canvas.figure.text(0.51, 0.5, "second")
    canvas.figure.text(0.98, 0.7, "leaves the picture")
    canvas.redraw()
    assert touching(canvas) == ["first / second", "leaves the picture"]
