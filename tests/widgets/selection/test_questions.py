"""Questions and exercises of notebook 04: what its prose says is what is measured."""

import pytest
import torch

from spear_core.spear import reconstruction
from spear_core.spear.uniqueness import weigh
from spear_widgets.kit.scene import scene
from spear_widgets.kit.twins import client_with
from spear_widgets.selection import exercises, questions

QUESTIONS = [
    (questions.start_by_zeros, "all of them"),
    (questions.one_wrong_direction, "one"),
    (questions.proof_by_lambda, "no: a wrong batch can have λ = 1, too"),
]


@pytest.mark.parametrize(("question", "answer"), QUESTIONS, ids=lambda q: getattr(q, "__name__", ""))
def test_questions_measure_what_the_prose_says(question, answer: str):
    posed = question()
    assert posed.reveal.value == ""
    assert posed.commit(answer)
    assert posed.reveal.value.startswith("<b>Right.</b>")


def test_the_references_agree_with_the_library():
    stage = scene("photos", 5)
    found, layer = reconstruction.reconstruct(stage.forward, stage.true_directions), stage.layer
    batch = exercises.spear(layer.weight_grad, layer.bias_grad, layer.weight, layer.bias)
    assert float(torch.cdist(found.inputs, batch).min(dim=1).values.max()) < 1e-4
    match = exercises.sparsity_match(stage.output_grads, stage.preactivations)
    assert float(match) == found.sparsity_match == 1
    alike = client_with("photos", 4, 200, 7, "same")
    unique = weigh(alike.low_rank, alike.true_directions).unique
    numbers = exercises.twins(alike.low_rank.factor, alike.true_directions)
    assert numbers == (~unique).nonzero().flatten().tolist() == [0, 1]
