"""The certificate: each part fails on the batch that it is there to refuse, and on no honest one."""

from dataclasses import replace

import pytest
import torch

from spear_core import client
from spear_core.attack.invert import invert
from spear_core.certificate.certify import certify, expected_error
from spear_core.certificate.record import Part
from spear_core.certificate.words import notes
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.problem import Problem
from spear_core.spear.reconstruction import from_coefficients, reconstruct
from spear_core.spear.zeros import zeros_of
from spear_core.study.metrics import EXACT_DB, compare
from tests.core.attacked import attacked, gaussian, photos, shifted, target_of
from tests.core.zoo import seeded

HONEST = {Part.GRADIENT: True, Part.ZEROS: True, Part.UNIQUE: True, Part.REPLAY: True}


def certificate_of(case, Q=None, problem=None, told=False):
    target = replace(target_of(problem or case.problem, case.low_rank), told=told)
    found = reconstruct(target.forward, case.directions(target.low_rank) if Q is None else Q)
    return certify(target, found, generator=seeded()), found


def same_pattern(b=4, seed=0, dtype=torch.float64):
    """A batch whose first two samples activate the same units and have different labels."""
    generator = seeded(seed)
    inputs = torch.randn(b, 150, generator=generator, dtype=dtype)
    nudge, labels = torch.randn(150, generator=generator, dtype=dtype), torch.arange(b)
    for distance in 0.5 ** torch.arange(30):
        inputs[1] = inputs[0] + distance * nudge
        case = attacked(inputs.clone(), labels, seed=seed)
        if torch.equal(case.zeros[:, 0], case.zeros[:, 1]):
            return case
    raise AssertionError("no distance gives the same pattern")


@pytest.mark.parametrize("b", [1, 2, 5, 9])
@pytest.mark.parametrize("kind", [gaussian, photos])
def test_the_truth_passes_every_part(kind, b, dtype):
    case = kind(b, 200, dtype=dtype)
    certificate, _ = certificate_of(case, told=b == 1)
    assert certificate.parts == HONEST
    assert bool(certificate.certified_rows.all())
    assert certificate.complete
    assert notes(certificate) == ()
    assert certificate.labels.tolist() == case.labels.tolist()


def test_one_layer_alone_is_certified_without_replay(device):
    case = gaussian(4, device=device)
    problem = Problem(case.problem.layers[:1])
    certificate, _ = certificate_of(case, problem=problem, told=True)
    assert certificate.parts == HONEST | {Part.REPLAY: None}
    assert bool(certificate.certified_rows.all())
    untold, _ = certificate_of(case, problem=problem)
    assert bool(untold.proven_rows.all()) and not bool(untold.certified_rows.any())
    assert certificate.labels is None


# ---------------------------------------------------------------- (a)
def test_a_bias_gradient_of_other_samples_fails_a():
    case = gaussian(4)
    problem = Problem(
        (replace(case.problem.attacked, bias_grad=2.5 * gaussian(4, seed=1).gradients["0.bias"]),)
    )
    certificate, _ = certificate_of(case, problem=problem)
    assert certificate.parts[Part.GRADIENT] is False
    assert not bool(certificate.proven_rows.any())
    assert any("gives a gradient that is off by" in note for note in notes(certificate))


# ---------------------------------------------------------------- (b)
@pytest.mark.parametrize("size", [1e-3, 1.0])
def test_weights_of_another_model_fail_b(size):
    case = gaussian(4)
    layer = case.problem.attacked
    noise = torch.randn(layer.weight.shape, generator=seeded(), dtype=torch.float64)
    problem = Problem((replace(layer, weight=layer.weight + size * noise),))
    certificate, found = certificate_of(case, problem=problem)
    assert found.sparsity_match < 1
    assert certificate.parts[Part.ZEROS] is False
    assert not bool(certificate.proven_rows.any())
    assert any("λ < 1" in note for note in notes(certificate))


def test_one_wrong_direction_voids_all_rows():
    case = gaussian(5)
    Q = case.directions(case.low_rank)
    Q[:, 0] = Q[:, 0] + Q[:, 1]
    certificate, _ = certificate_of(case, Q / Q.norm(dim=0))
    assert certificate.parts[Part.ZEROS] is False
    assert not bool(certificate.proven_rows.any())


# ---------------------------------------------------------------- (c)
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("mixing", [0.0, 0.3])
def test_samples_of_one_pattern_fail_c_alone(seed, mixing):
    """A mixture of the two agrees with every zero and reproduces the gradient; λ = 1 is no proof."""
    case = same_pattern(seed=seed)
    mixture = torch.eye(4, dtype=torch.float64)
    mixture[:2, :2] = torch.tensor([[1 - mixing, mixing], [mixing / 2, 1 - mixing / 2]])
    truth = reconstruct(case.target.forward, case.directions(case.low_rank))
    Q = torch.linalg.inv(mixture @ truth.coefficients)
    certificate, found = certificate_of(case, Q / Q.norm(dim=0), Problem(case.problem.layers[:1]))
    wrong = float((found.inputs - case.inputs).abs().max())
    assert (wrong > 1e-3) == (mixing > 0)
    assert certificate.parts == {Part.GRADIENT: True, Part.ZEROS: True, Part.UNIQUE: False, Part.REPLAY: None}
    assert certificate.unique_rows[:2].tolist() == [False, False]
    assert not bool(certificate.proven_rows.any())
    assert any("samples are not unique" in note for note in notes(certificate))


@pytest.mark.parametrize("seed", range(3))
def test_with_the_model_a_mixture_of_one_pattern_is_refused_and_the_truth_may_pass(seed):
    case = same_pattern(seed=seed)
    Q = case.directions(case.low_rank)
    truth, found = certificate_of(case)
    if bool(truth.certified_rows.all()):
        assert float(compare(found.inputs, case.inputs).psnr.min()) > 90
    Q[:, 0] = Q[:, 0] + 0.3 * Q[:, 1]
    certificate, _ = certificate_of(case, Q / Q.norm(dim=0))
    assert not bool(certificate.proven_rows.any())


# ---------------------------------------------------------------- (d)
@pytest.mark.parametrize("name", ["2.weight", "4.bias", "10.weight"])
def test_a_gradient_of_another_layer_that_does_not_fit_fails_d(name):
    case = gaussian(4)
    spoilt = dict(case.gradients)
    spoilt[name] = spoilt[name] * 1.01
    certificate, _ = certificate_of(case, problem=replace(case, gradients=spoilt).problem)
    assert certificate.parts == HONEST | {Part.REPLAY: False}
    assert not bool(certificate.proven_rows.any())
    assert any("replaying the client misses" in note for note in notes(certificate))


# ---------------------------------------------------------------- incomplete and blurred
def test_an_incomplete_batch_is_never_certified_as_a_whole():
    case = gaussian(5)
    certificate, _ = certificate_of(
        case, case.directions(case.low_rank)[:, :3], Problem(case.problem.layers[:1])
    )
    assert not certificate.complete
    assert not bool(certificate.proven_rows.any())
    assert certificate.parts[Part.GRADIENT] is False


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["gaussian", "photos", "near-duplicates"])
def test_the_expected_error_bounds_the_real_one(kind, seed):
    """Within a factor: what rounding has really done to the worst row."""
    if kind == "near-duplicates":
        inputs = shifted(4, 2, seed=seed)
        case = attacked(inputs, torch.arange(4), 400, seed=seed)
    else:
        case = {"gaussian": gaussian, "photos": photos}[kind](6, seed=seed, dtype=torch.float32)
    low_rank = case.low_rank
    found = reconstruct(case.target.forward, case.directions(low_rank))
    expected = expected_error(low_rank, found, zeros_of(low_rank, found.directions))
    true = case.inputs.double()
    error = (found.inputs - true).square().mean(dim=1).sqrt() / true.abs().max()
    assert bool((error < 10 * expected).all())
    assert bool((expected > 0).all())


def test_noise_that_blurs_is_not_called_exact():
    """Nothing is wrong but the precision: every row is flagged."""
    case = gaussian(4, dtype=torch.float32)
    G = case.gradients["0.weight"]
    noisy = dict(case.gradients)
    noisy["0.weight"] = G + 1e-3 * float(G.std()) * torch.randn(G.shape, generator=seeded())
    blurred = replace(case, gradients=noisy)
    certificate, found = certificate_of(blurred)
    assert float(compare(found.inputs, case.inputs).psnr.min()) < 90
    assert not bool(certificate.proven_rows.any())


def test_a_mixture_of_two_samples_just_behind_its_last_kink_is_not_certified():
    """35 of one and −34 of another sample of one pattern: a unit has just flipped, and all holds to rounding."""
    generator = seeded(2)
    batch = data.load("photos", 4, size=16, generator=generator)
    half = batch.inputs[:2]
    inputs = torch.cat([half, half + 1e-3 * half.roll(1, dims=1)])
    model = fully_connected(768, 100, 2, generator=generator)
    found = invert(
        model, client.gradients(model, inputs, batch.labels), method="consistency", generator=seeded(2)
    )
    proven = found.inputs[found.certified_rows]
    assert int(compare(proven, inputs).exact.sum()) == len(proven)


def test_entries_that_back_propagation_makes_tiny_do_not_refuse_a_batch():
    """One unit hardly counts in the next layer, so that its ∂L/∂z are in rounding's reach where it is active."""
    generator = seeded(1003)
    batch = data.load("photos", 24, size=32, generator=generator)
    model = fully_connected(batch.inputs.shape[1], 400, 6, generator=generator)
    with torch.no_grad():
        model[2].weight[:, 0] *= 1e-9
        assert bool((model[0](batch.inputs)[:, 0] > 0).any())
    found = invert(model, client.gradients(model, batch.inputs, batch.labels))
    assert found.certified
    assert found.sparsity_match < 1
    assert float(compare(found.inputs, batch.inputs).psnr.min()) > EXACT_DB


def test_torchs_own_random_numbers_are_left_alone():
    """Of an incomplete batch, the scale is asked of the next layer: with the generator that was given."""
    case = gaussian(4)
    target, q = case.target, case.directions(case.low_rank)
    c = torch.linalg.lstsq(target.low_rank.rows.T, case.inputs[:2].T).solution.T
    before = torch.get_rng_state()
    certify(target, from_coefficients(target.forward, c, q[:, :2]), generator=seeded())
    assert torch.equal(before, torch.get_rng_state())
