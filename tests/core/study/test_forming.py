"""What is recorded of a search is the search: it ends as `invert` does, and watching changes nothing."""

import torch
from torch import nn

import spear_core
from spear_core import client
from spear_core.front.descent import Event
from spear_core.study.forming import EARLY, EVERY, form

SHAPE = (1, 8, 8)


def sent():
    torch.manual_seed(0)
    front = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    model = nn.Sequential(*front, nn.Linear(256, 80), nn.ReLU(), nn.Linear(80, 4))
    pictures = torch.rand(3, *SHAPE)
    return model, client.gradients(model, pictures, torch.arange(3))


def test_it_ends_where_invert_ends():
    model, gradients = sent()
    forming, found = form(model, gradients, SHAPE), spear_core.invert(model, gradients, input_shape=SHAPE)
    assert torch.equal(forming.inversion.network_inputs, found.network_inputs)
    assert torch.equal(forming.inversion.network_inputs_certified, found.network_inputs_certified)
    assert torch.equal(forming.moments[-1].inputs.float(), found.network_inputs)


def test_moments_tell_the_story_in_order():
    forming = form(*sent(), SHAPE)
    events = [moment.event for moment in forming.moments]
    assert events[0] is Event.START and events[-1] is Event.BEST and events.count(Event.START) == 1
    steps = [moment.step for moment in forming.moments if moment.event is Event.STEP]
    assert all(step in EARLY or step % EVERY == 0 for step in steps) and steps[:3] == [1, 2, 4]
    for before, after in zip(forming.moments, forming.moments[1:]):
        still = torch.ones(3, dtype=torch.bool).index_fill_(0, after.at, False)
        assert torch.equal(before.inputs[still], after.inputs[still])


def test_contradictions_are_kicks_on_average():
    forming = form(*sent(), SHAPE)
    x = forming.moments[2].inputs
    J = torch.autograd.functional.jacobian(lambda v: forming.front.features(v[None])[0], x[0])
    errors = forming.front.features(x)[0] - forming.target[0]
    wanted = (J.flatten(1).T * errors).square().sum(dim=1).sqrt()
    ratio = forming.contradictions(x)[0].flatten().double() / wanted
    assert 0.8 < float(ratio.mean()) < 1.2  # over eight random kicks


def test_an_interruption_leaves_what_there_is():
    heard = []

    def stop(moment):
        heard.append(moment)
        if len(heard) == 3:
            raise KeyboardInterrupt

    forming = form(*sent(), SHAPE, stop)
    assert len(forming.moments) == 3 and any("interrupted" in note for note in forming.inversion.notes)
    assert not forming.inversion.network_inputs_certified.any()
