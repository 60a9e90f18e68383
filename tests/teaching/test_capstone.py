"""The capstone: what students get holds no photographs, the reference gets all points, and boldness costs."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from spear_core.study import metrics
from spear_widgets.capstone import grade, hand_in
from spear_widgets.capstone.messages import NAMES, SCALE, message
from teaching import capstone

ROOT = Path(__file__).resolve().parents[2]
STUDENTS = ROOT / "notebooks" / "capstone"
TRUTH = torch.randn(5, hand_in.PIXELS, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def made():
    return {name: capstone.make(name, capstone.PUBLISHED_SEED) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_messages_are_what_the_script_makes(name: str, made):
    stored, (fresh, _, _) = message(name, STUDENTS), made[name]
    assert (stored.network, stored.known, stored.words) == (fresh.network, fresh.known, fresh.words)
    assert list(stored.gradients) == list(fresh.gradients)
    for parameter, gradient in fresh.gradients.items():
        close = 1e-5 * float(gradient.abs().max())
        assert torch.allclose(stored.gradients[parameter], gradient, atol=close), parameter


def test_the_messages_are_small():
    assert sum(path.stat().st_size for path in STUDENTS.iterdir()) < 1_200_000


def test_what_students_get_is_what_a_server_has():
    assert sorted(path.name for path in STUDENTS.iterdir()) == [f"{name}.npz" for name in NAMES]
    for name in NAMES:
        with np.load(STUDENTS / f"{name}.npz") as file:
            held = set(file.files)
        assert held == {"about", *dict(message(name, STUDENTS).model.named_parameters())}


@pytest.mark.parametrize("name", NAMES)
def test_claiming_what_is_certified_is_the_best_policy(name: str, made):
    sent, truth, best = made[name]
    rows, claims = capstone.solve(sent)
    assert grade.points(rows, claims, truth) == best
    bold = grade.points(rows, torch.ones_like(claims), truth)
    shy = grade.points(rows, torch.zeros_like(claims), truth)
    assert (bold < best) == bool(~claims.all()) and (shy < best) == bool(claims.any())


def test_two_clients_look_alike_and_only_the_certificate_tells(made):
    (sent, truth, _), (other, _, _) = made["client_2"], made["client_1"]
    assert {**sent.network, "seed": 0} == {**other.network, "seed": 0} and sent.words == other.words
    rows, claims = capstone.solve(sent)
    score = metrics.compare(rows, truth)
    between = rows[~claims][0]
    # the row that stands for two differs from both by less than a grey level of 255, and is neither
    assert (between - truth[0]).abs().max() * SCALE < 1 / 255
    assert score.psnr[:2].max() < metrics.EXACT_DB


def test_another_seed_gives_other_photographs(made):
    _, truth, _ = capstone.make("client_1", 7)
    assert metrics.compare(truth, made["client_1"][1]).psnr.max() < metrics.SEEN_DB


# ---------------------------------------------------------------- points, as the notebook's table has them
BLURRED = TRUTH + 0.02 * torch.randn(TRUTH.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("rows", "claim", "wanted"),
    [
        (TRUTH[:1], True, 3),
        (TRUTH[:1], False, 2),
        (BLURRED[:1], True, -1),
        (BLURRED[:1], False, 2),
        (-TRUTH[:1], True, -2),
        (-TRUTH[:1], False, 0),
        (TRUTH[[0, 0]], True, 3 - 2),  # the same photograph once more is one row too many
    ],
)
def test_points(rows: torch.Tensor, claim: bool, wanted: int):
    assert grade.points(rows, torch.full((len(rows),), claim), TRUTH) == wanted


def test_a_whole_hand_in(tmp_path: Path, made):
    key = {name: truth for name, (_, truth, _) in made.items()}
    key |= {f"{name}_best": torch.tensor(best) for name, (_, _, best) in made.items()}
    answers = {name: capstone.solve(made[name][0]) for name in NAMES[:3]}
    shown = hand_in.hand_in(
        {name: rows for name, (rows, _) in answers.items()},
        {name: claims.tolist() for name, (_, claims) in answers.items()},
        tmp_path / "capstone.npz",
    )
    assert "client_1 8 rows, 8 of them claimed exact" in shown.description
    found = grade.grade(tmp_path / "capstone.npz", key)
    assert found.points == {**found.best, "client_4": 0, "client_5": 0}
    assert found.words["client_2"] == "5 rows for 5 photographs, 3 exact; 3 claimed exact, 0 of them wrongly."


# ---------------------------------------------------------------- the form
def test_nothing_is_written_before_there_is_an_answer(tmp_path: Path):
    assert "no message is answered" in str(hand_in.hand_in({}, {}, tmp_path / "capstone.npz"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("recovered", "exact", "words"),
    [
        ({"client_9": TRUTH}, {"client_9": [True] * 5}, "names must be among"),
        ({"client_1": TRUTH}, {}, "must answer the same messages"),
        ({"client_1": TRUTH[0]}, {"client_1": [True]}, r"shape \(k, 768\)"),
        ({"client_1": "all"}, {"client_1": [True]}, "must be a tensor, got str"),
        ({"client_1": TRUTH.repeat(3, 1)}, {"client_1": [True] * 15}, "k from 1 to 12"),
        ({"client_1": TRUTH / 0}, {"client_1": [True] * 5}, "numbers only"),
        ({"client_1": TRUTH}, {"client_1": [True] * 4}, "5 times True or False"),
        ({"client_1": TRUTH}, {"client_1": [1.0] * 5}, "5 times True or False"),
        ({"client_1": TRUTH}, {"client_1": "yes"}, "for each row, got str"),
    ],
)
def test_a_wrong_form_is_said(recovered, exact, words: str, tmp_path: Path):
    with pytest.raises(ValueError, match=words):
        hand_in.hand_in(recovered, exact, tmp_path / "capstone.npz")


def planted(path: Path, kind: str) -> None:
    if kind == "text":
        path.write_text("give me all points")
    elif kind == "pickle":
        np.savez(path, client_1_rows=np.array([print], dtype=object))
    elif kind == "bomb":
        np.savez_compressed(path, client_1_rows=np.zeros((9, 10**6)))
    elif kind == "other arrays":
        np.savez(path, points=np.array(1000))
    elif kind == "no array":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("client_1_rows.npy", b"not an array")
    elif kind == "no claims":
        np.savez(path, client_1_rows=np.zeros((2, hand_in.PIXELS)))


@pytest.mark.parametrize("kind", ["text", "pickle", "bomb", "other arrays", "no array", "no claims"])
def test_a_file_from_anybody_is_read_with_care(kind: str, tmp_path: Path):
    planted(tmp_path / "capstone.npz", kind)
    with pytest.raises(ValueError):
        hand_in.read(tmp_path / "capstone.npz")
