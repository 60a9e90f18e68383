"""Pictures form as the search moves them, end where `invert` ends, and running statistics tell the batch's own."""

import pytest
import torch

import spear_core
from spear_core.front.descent import Event
from spear_core.study import metrics
from spear_widgets.networks import forming, questions
from spear_widgets.networks.exercises import batch_statistics
from spear_widgets.networks.forming import SEEDS, FormingExplorer
from spear_widgets.networks.norms import normalised_client


@pytest.fixture(scope="module")
def explorer() -> FormingExplorer:
    return FormingExplorer()


@pytest.fixture(autouse=True)
def from_the_start(request: pytest.FixtureRequest):
    if "explorer" in request.fixturenames:
        request.getfixturevalue("explorer").reset()


def test_the_page_opens_with_a_kick_and_ends_certified(explorer):
    moments = explorer.course.forming.moments
    events = [moment.event for moment in moments]
    assert events[0] is Event.START and events[-1] is Event.BEST and Event.KICK in events
    assert all(explorer.course.proven()) and bool((explorer.course.psnr[-1] >= metrics.EXACT_DB).all())
    kicked = events.index(Event.KICK)
    assert len(moments[kicked].at) == 1
    assert questions.forming().measure() == "exact, and certified"


def test_every_moment_is_shown_and_said(explorer):
    course = explorer.course
    for at in (0, course.last, *range(course.last, -1, -1), 7):
        explorer.control["moment"].value = at
        assert explorer.status.value == "" and f"Moment {at} of {course.last}" in explorer.caption.value
        assert ("Certified" in explorer.caption.value) == (at == course.last)
    explorer.move("moment", 1)
    assert explorer.values["moment"] == 8


def test_the_last_moment_is_what_invert_finds(explorer):
    client, found = explorer.course.client, explorer.course.forming
    again = spear_core.invert(client.model, client.gradients, input_shape=(1, 28, 28))
    assert torch.equal(again.network_inputs_certified, found.inversion.network_inputs_certified)
    assert torch.allclose(found.moments[-1].inputs, again.network_inputs.double(), atol=1e-5)


def test_contradictions_vanish_at_a_solution(explorer):
    course, moments = explorer.course, explorer.course.forming.moments
    kick = next(k for k, moment in enumerate(moments) if moment.event is Event.KICK)
    before = course.forming.contradictions(moments[kick - 1].inputs).flatten(1).amax(dim=1)
    stuck = torch.zeros(len(before), dtype=torch.bool).index_fill_(0, moments[kick].at, True)
    assert float(before[stuck].min()) > 100 * float(before[~stuck].max())
    white = forming.contradictions(course, course.last)
    assert white.min() == 255


@pytest.mark.parametrize("name", ["5 × 5, max-pools", "5 × 5, stride 2, no pools"])
def test_another_network_is_attacked_when_it_is_chosen(explorer, name: str):
    explorer.control["network"].value = name
    assert explorer.status.value == "" and explorer.values["moment"] == explorer.course.last
    assert bool((explorer.course.psnr[-1] >= metrics.EXACT_DB).all())
    explorer.reset()
    assert explorer.values == {"network": "3 × 3, max-pools", "seed": SEEDS[0], "moment": 4}


def test_a_failing_search_is_shown(explorer, monkeypatch):
    def fail(*arguments):
        raise FloatingPointError("no picture")

    monkeypatch.setattr(forming, "course", fail)
    explorer.control["seed"].value = SEEDS[1]
    assert explorer.status.value == "Error: no picture"


def test_a_stopped_search_shows_what_there_is():
    heard = []

    def stop(moment):
        heard.append(moment)
        if len(heard) == 5:
            raise KeyboardInterrupt

    course = forming.course("3 × 3, max-pools", SEEDS[1], stop)
    assert len(heard) == 5 and not any(course.proven())
    assert "interrupted" in forming.said(course, course.last)


# ---------------------------------------------------------------- BatchNorm
def test_running_statistics_tell_the_batchs_own():
    client = normalised_client()
    norm, after = client.model[1], client.after
    with torch.no_grad():
        z = client.model[0](client.batch.inputs)
    before = norm.running_mean, norm.running_var
    now = after["1.running_mean"], after["1.running_var"]
    told = batch_statistics(*before, *now, norm.momentum, len(z))
    wanted = torch.stack([z.mean(dim=0), z.var(dim=0, unbiased=False)])
    assert torch.allclose(told, wanted, atol=1e-5)


def test_the_batch_comes_back_with_them_and_not_without():
    client = normalised_client()
    found = spear_core.invert(client.model, client.gradients, buffers=client.after)
    assert found.certified and bool(metrics.compare(found.inputs, client.batch.inputs).exact.all())
    with pytest.raises(ValueError, match="BatchNorm in train mode"):
        spear_core.invert(client.model, client.gradients)
    assert questions.statistics().measure() == "all eight, exactly"
