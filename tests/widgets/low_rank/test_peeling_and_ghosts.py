"""The explorers of step 1, step by step against arrays: sums of outer products, and wrong Qs."""

import numpy as np
import pytest
import torch
from traitlets import TraitError

from spear_core import client
from spear_core.study.ghosts import STEPS
from spear_widgets.kit import drawing, samples
from spear_widgets.kit.scene import scene
from spear_widgets.low_rank.ghosts import WRONG, GhostExplorer
from spear_widgets.low_rank.peeling import SPECTRUM, PeelExplorer, peel


# ---------------------------------------------------------------- the scene
@pytest.mark.parametrize("name", ["photos", "digits", "breast_cancer"])
@pytest.mark.parametrize("b", [1, 3, 8])
def test_a_scene_is_what_client_and_server_see(name: str, b: int):
    stage = scene(name, b, 60)
    whole = client.gradients(stage.model, stage.batch.inputs, stage.batch.labels)
    assert torch.equal(stage.layer.weight_grad, whole["0.weight"])
    product = stage.output_grads.T @ stage.batch.inputs
    assert torch.allclose(product, whole["0.weight"], atol=1e-6 * float(product.abs().max()), rtol=0)
    Q = stage.true_q
    assert torch.allclose(stage.low_rank.factor @ Q, stage.output_grads.T.double(), atol=1e-6)
    found = torch.linalg.solve(Q, stage.low_rank.rows)
    assert float((found - stage.batch.inputs).abs().max()) < 1e-3


def test_the_same_arguments_give_the_same_scene():
    assert scene("digits", 3, 60) is scene("digits", 3, 60)


# ---------------------------------------------------------------- peeling
@pytest.fixture(scope="module")
def peeler() -> PeelExplorer:
    return PeelExplorer()


@pytest.fixture(autouse=True)
def from_the_start(request: pytest.FixtureRequest):
    for name in ("peeler", "ghost"):
        if name in request.fixturenames:
            request.getfixturevalue(name).reset()


def naive_sum(stage, terms: int) -> torch.Tensor:
    total = torch.zeros_like(stage.layer.weight_grad)
    for i in range(terms):
        x, y = stage.batch.inputs[i : i + 1], stage.batch.labels[i : i + 1]
        total += client.gradients(stage.model, x, y)["0.weight"] / stage.batch_size
    return total


@pytest.mark.parametrize("data", ["photos", "digits", "breast_cancer"])
def test_each_step_adds_one_term_and_one_rank(peeler: PeelExplorer, data: str):
    peeler.set(data=data, batch_size=5, width=50, terms=0)
    for terms in range(6):
        peeler.control["terms"].value = terms
        assert peeler.status.value == ""
        wanted = naive_sum(peeler.stage, terms)
        size = float(peeler.state.gradient.abs().max())
        assert torch.allclose(peeler.state.partial, wanted, atol=1e-6 * size, rtol=0)
        assert peeler.state.rank == terms
        assert f"rank {terms}" in peeler.caption.value
    assert peeler.state.remainder < 1e-5
    assert "nothing is missing" in peeler.caption.value


def test_singular_values_fall_off_a_cliff(peeler: PeelExplorer):
    peeler.set(batch_size=7, terms=7)
    values = peeler.state.singular_values
    exact = torch.linalg.svdvals(peeler.state.partial.double())[:7]
    assert torch.allclose(values[:7], exact / exact[0], rtol=1e-5)
    assert float(values[6]) > 1e-2
    assert float(values[7]) < 1e-6


def test_terms_follow_the_batch_size(peeler: PeelExplorer):
    peeler.set(batch_size=12, terms=12)
    peeler.control["batch_size"].value = 3
    assert peeler.control["terms"].max == 3
    assert peeler.values["terms"] == 3 == peeler.state.rank
    peeler.control["batch_size"].value = 6
    assert peeler.control["terms"].max == 6
    assert peeler.state.rank == 3


def test_buttons_step_and_stop_at_the_ends(peeler: PeelExplorer):
    peeler.move("terms", -1), peeler.move("terms", -1), peeler.move("terms", -1)
    assert peeler.values["terms"] == 0 == peeler.state.rank
    for _ in range(9):
        peeler.move("terms", +1)
    assert peeler.values["terms"] == 4 == peeler.state.rank


def test_peeler_resets_from_anywhere(peeler: PeelExplorer):
    first = peeler.picture["matrices"].value
    peeler.set(data="breast_cancer", batch_size=12, width=400, terms=9)
    peeler.reset()
    assert peeler.values == {"data": "photos", "batch_size": 4, "width": 200, "terms": 2}
    assert peeler.picture["matrices"].value == first


def test_peeler_refuses_bad_values(peeler: PeelExplorer):
    with pytest.raises(TraitError):
        peeler.set(width=123)
    with pytest.raises(TraitError):
        peeler.set(data="faces")
    with pytest.raises(ValueError, match="terms must be 0 to 4, got 5"):
        peel(peeler.stage, 5)
    with pytest.raises(ValueError, match="got -1"):
        peel(peeler.stage, -1)


def test_a_failing_computation_is_shown_and_raised(peeler: PeelExplorer, monkeypatch):
    def fail(*arguments):
        raise FloatingPointError("the split did not converge")

    monkeypatch.setattr("spear_widgets.low_rank.peeling.peel", fail)
    peeler.control["terms"].value = 1
    assert peeler.status.value == "Error: the split did not converge"
    with pytest.raises(FloatingPointError):
        peeler.refresh()
    monkeypatch.undo()
    peeler.control["terms"].value = 3
    assert peeler.status.value == ""
    assert peeler.state.rank == 3


# ---------------------------------------------------------------- ghosts
@pytest.fixture(scope="module")
def ghost() -> GhostExplorer:
    return GhostExplorer()


@pytest.mark.parametrize("b", [2, 4, 8])
@pytest.mark.parametrize("data", ["photos", "digits"])
def test_only_the_last_step_is_right_and_only_there_the_zeros_jump(ghost: GhostExplorer, data: str, b: int):
    ghost.set(data=data, batch_size=b)
    live = ghost.stage.output_grads[:, ghost.stage.live]
    right = (live == 0).sum(dim=1).tolist()
    assert ghost.zeros(1, STEPS) == right
    for wrong in WRONG:  # an entry that passes through zero may be seen there
        assert max(max(ghost.zeros(wrong, step)) for step in (0, 50, 99, 99.5)) <= 5 < min(right) / 5


def test_what_the_page_gets_follows_the_controls(ghost: GhostExplorer):
    for setting in ({"batch_size": 8}, {"data": "digits"}, {"batch_size": 2}, {"data": "photos"}):
        ghost.set(**setting)
        b = ghost.values["batch_size"]
        sent = ghost.live.data
        assert ghost.status.value == ""
        assert sent["ways"]["shape"] == [len(WRONG), b, b] and sent["R"]["shape"][0] == b
        assert sent["zeros"]["right"] == ghost.zeros(1, STEPS)
    ghost.reset()
    assert ghost.values == {"data": "photos", "batch_size": 4}


def test_rows_of_a_table_become_pictures():
    stage = scene("breast_cancer", 3, 60)
    pictures = samples.sample_pictures(stage.batch, stage.batch.inputs)
    assert pictures.shape[0] == 3 and pictures.dtype == np.uint8


def test_still_pictures_have_words():
    words, labels = "Four photographs of the batch.", ["a", "b", "c", "d"]
    picture = samples.picture_of(scene().batch, scene().batch.inputs, words, labels)
    data, metadata = picture._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == data["text/plain"] == words


def test_there_is_nothing_between_pictures_without_words():
    inputs = scene().batch.inputs
    bare = samples.picture_of(scene().batch, inputs, "words").picture
    named = samples.picture_of(scene().batch, inputs, "words", ["a", "b", "c", "d"]).picture
    assert bare.mode == "RGBA" and named.mode == "RGB"
    alpha = np.asarray(bare)[..., 3]
    assert alpha[0].max() == 0 and alpha[:, 0].max() == 0
    assert (alpha == 255).sum() == 4 * (112 * drawing.SCALE) ** 2
    assert np.array_equal(
        np.asarray(bare.convert("RGB"))[alpha == 255], np.asarray(named)[: len(alpha)][alpha == 255]
    )


@pytest.mark.parametrize(("choice", "place"), [("1", 1.5), ("4", 4.5), ("3072", SPECTRUM + 0.5)])
def test_the_answer_is_drawn_into_the_spectrum(choice: str, place: float):
    explorer = PeelExplorer()
    before = bytes(explorer.picture["spectrum"].value)
    explorer.answered(choice)
    assert explorer.values["terms"] == 4, "all terms are there to compare with"
    assert explorer._guess.get_xdata()[0] == place
    assert bytes(explorer.picture["spectrum"].value) != before
