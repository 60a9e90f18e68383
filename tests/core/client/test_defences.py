"""Defended gradients: against plain definitions, refusals by name, and what the attack makes of them."""

import pytest
import torch

from spear_core.client import defences
from spear_core.study.defended import DEFENCES, message
from spear_core.study.outcomes import outcome
from tests.thorough import thorough


@pytest.fixture
def grads() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"weight": torch.randn(7, 5, generator=generator), "bias": torch.zeros(7)}


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_quantised_entries_are_the_nearest_of_the_allowed_values(grads, bits: int):
    sent, largest = defences.quantised(grads, bits)["weight"], float(grads["weight"].abs().max())
    levels = 2 ** (bits - 1) - 1
    allowed = torch.arange(-levels, levels + 1) * (largest / levels)
    nearest = allowed[(grads["weight"][..., None] - allowed).abs().argmin(dim=-1)]
    assert torch.allclose(sent, nearest, atol=largest / levels * 1e-3)


def test_a_zero_gradient_stays_zero_and_the_input_is_left_alone(grads):
    before = grads["weight"].clone()
    for sent in (
        defences.quantised(grads, 3),
        defences.sparsified(grads, 0.5),
        defences.rounded(grads, torch.float16),
    ):
        assert set(sent) == {"weight", "bias"} and bool((sent["bias"] == 0).all())
    assert torch.equal(grads["weight"], before)


@pytest.mark.parametrize(("share", "kept"), [(1.0, 35), (0.2, 7), (1e-6, 1)])
def test_top_k_keeps_the_largest(grads, share: float, kept: int):
    sent, full = defences.sparsified(grads, share)["weight"], grads["weight"]
    assert int((sent != 0).sum()) == kept
    assert bool((sent[sent != 0] == full[sent != 0]).all())
    if kept < full.numel():
        assert full[sent != 0].abs().min() >= full[sent == 0].abs().max()


def test_withheld_layers_are_gone_and_the_others_untouched(grads):
    assert set(defences.withheld(grads, ("w",))) == {"bias"}
    whole = defences.withheld(grads, ())
    assert all(whole[name] is grad for name, grad in grads.items()) and len(whole) == 2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda g: defences.quantised(g, 1), "bits must be at least 2, got 1"),
        (lambda g: defences.sparsified(g, 0.0), "share must be above 0"),
        (lambda g: defences.sparsified(g, 1.5), "share must be above 0"),
        (lambda g: defences.rounded(g, torch.int32), "must be a floating-point format"),
    ],
)
def test_bad_knobs_are_refused_by_name(grads, call, words: str):
    with pytest.raises(ValueError, match=words):
        call(grads)


@pytest.mark.parametrize("name", DEFENCES)
def test_every_defence_sends_a_message_that_is_the_same_again(name: str):
    value = DEFENCES[name].values[-1]
    first, again = message(name, value, seed=1), message(name, value, seed=1)
    assert all(torch.equal(grad, again.gradients[key]) for key, grad in first.gradients.items())


@pytest.mark.parametrize("seed", [0, *thorough(1, 2)])
def test_clipping_leaves_everything_exact_and_noise_nothing_certified(seed: int):
    clipped = outcome(message("clip", 0.001, seed=seed))
    assert bool(clipped.certified.all()) and clipped.false == 0
    noisy = outcome(message("noise", 0.01, seed=seed))
    assert not noisy.certified.any()
    assert float(noisy.psnr.median()) > 50


def test_a_refusal_is_an_outcome_in_its_own_words():
    found = outcome(message("norm", "train"))
    assert "BatchNorm" in found.words and found.inversion is None
    assert bool((found.psnr == -torch.inf).all()) and not found.certified.any()
    hidden = outcome(message("hidden", "first layer"))
    assert "later layer" in hidden.words and hidden.inversion is not None
