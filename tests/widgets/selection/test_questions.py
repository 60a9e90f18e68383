"""Questions and exercises of notebook 04: what its prose says is what is measured."""

import pytest
import torch

from spear_core.spear import reconstruction
from spear_widgets.kit.scene import scene
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
    directions = stage.true_directions
    found = reconstruction.reconstruct(stage.forward, directions)
    lengths = exercises.scales(stage.low_rank.factor, directions, stage.layer.bias_grad.double())
    assert torch.allclose(lengths, found.lengths)
    match = exercises.sparsity_match(stage.output_grads, stage.preactivations)
    assert float(match) == found.sparsity_match == 1
