"""Opacus' own optimiser: clipping hides nothing, noise does, and what noise leaves is never called exact."""

import pytest
import torch

from spear_core import client
from spear_core.client import data, networks

pytest.importorskip("opacus", reason='Opacus is not installed: pip install -e ".[federated]"')
from examples import opacus_noise

pytestmark = pytest.mark.filterwarnings("ignore:Full backward hook")


@pytest.fixture(scope="module")
def outcomes():
    return opacus_noise.run((0.0, 1e-5, 1.0))


def test_clipping_alone_leaves_the_batch_exact_and_certified(outcomes):
    clipped = outcomes[0]
    assert clipped.inversion.certified and bool(clipped.score.exact.all())
    assert "exact, certified" in str(clipped)


def test_a_little_noise_is_approximate_and_flagged(outcomes):
    noisy = outcomes[1]
    assert not noisy.inversion.certified_rows.any()
    assert 40 < float(noisy.score.psnr.median()) < 110
    assert noisy.inversion.notes and "approximate, not certified" in str(noisy)


def test_the_noise_of_real_deployments_leaves_nothing_that_is_called_certain(outcomes):
    private = outcomes[2]
    assert not private.inversion.certified_rows.any()
    assert float(private.score.psnr.max()) < 30


def test_opacus_did_clip_each_example_and_add_its_noise():
    b, norm = opacus_noise.BATCH_SIZE, opacus_noise.CLIP_NORM
    batch = data.load("photos", b, size=16, generator=torch.Generator().manual_seed(0))
    model = networks.fully_connected(768, 200, 3, generator=torch.Generator().manual_seed(1))
    before = [parameter.clone() for parameter in model.parameters()]
    expected = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for x, y in zip(batch.inputs, batch.labels):
        single = client.gradients(model, x[None], y[None])
        length = torch.cat([grad.flatten() for grad in single.values()]).norm()
        assert length > norm
        for name, grad in single.items():
            expected[name] += grad * norm / length / b
    clipped = opacus_noise.private_gradients(model, batch.inputs, batch.labels, 0.0)
    noisy = opacus_noise.private_gradients(model, batch.inputs, batch.labels, 0.1)
    for name, grad in expected.items():
        torch.testing.assert_close(clipped[f"_module.{name}"], grad, rtol=1e-4, atol=1e-7)
    noise = torch.cat([(noisy[name] - clipped[name]).flatten() for name in clipped])
    assert float(noise.std()) == pytest.approx(0.1 * norm / b, rel=0.02)
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters()))
