"""Every Q reproduces the gradient, with a batch of mixtures."""

import pytest
import torch

from spear_core.spear.reconstruction import gradient_residual
from spear_core.study.ghosts import ghosts, mixing
from spear_widgets.kit.scene import scene


@pytest.mark.parametrize("step", [0, 1, 37, 99, 100])
@pytest.mark.parametrize("wrong", [1, 9])
@pytest.mark.parametrize("b", [2, 5, 8])
def test_every_q_reproduces_the_gradient(b: int, wrong: int, step: int):
    stage = scene("photos", b)
    found = ghosts(stage.forward, stage.true_q, wrong, step)
    G, g = stage.layer.weight_grad.double(), stage.layer.bias_grad.double()
    product = found.output_grads.T @ found.inputs
    assert float((product - G).abs().max() / G.abs().max()) < 1e-5
    assert gradient_residual(found, stage.layer, found.output_grads) < 1e-5
    assert torch.allclose(found.output_grads.sum(dim=0), g, atol=1e-6 * float(g.abs().max()))


@pytest.mark.parametrize("b", [2, 4, 8])
def test_ghosts_are_mixtures_with_shares_that_add_up_to_one(b: int):
    stage = scene("photos", b)
    for step in (0, 50, 90):
        M = mixing(b, 2, step)
        assert torch.allclose(M.sum(dim=1), torch.ones(b, dtype=M.dtype))
        assert bool((M >= 0).all())
        mixed = M @ stage.batch.inputs.double()
        found = ghosts(stage.forward, stage.true_q, 2, step).inputs
        assert float((found - mixed).abs().max()) < 1e-4


@pytest.mark.parametrize("step", [-1, 101])
def test_steps_off_the_way(step: int):
    with pytest.raises(ValueError, match=f"step must be 0 to 100, got {step}"):
        mixing(3, 1, step)
