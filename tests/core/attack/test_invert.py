"""The whole attack by sampling, end to end: exact and certified, or flagged."""

from dataclasses import FrozenInstanceError
from itertools import pairwise

import pytest
import torch

from spear_core.attack.inversion import as_inversion
from spear_core.attack.invert import invert, invert_layer, states
from spear_core.certificate.record import Claim
from spear_core.client import data
from spear_core.problem import Problem
from spear_core.study.metrics import EXACT_DB, compare
from tests.core.attacked import Attacked, attacked, gaussian, photos, shifted
from tests.core.certificate.test_certify import same_pattern
from tests.core.zoo import seeded
from tests.thorough import thorough

DECIBEL = {torch.float32: 90.0, torch.float64: 200.0}


def attack(case, seed=0, **options):
    return invert(case.model, case.gradients, method="sampling", generator=seeded(seed), **options)


def attack_layer(case, **options):
    layer = case.problem.attacked
    return invert_layer(
        layer.weight_grad, layer.bias_grad, layer.weight, layer.bias, method="sampling", **options
    )


def assert_exact(inversion, case):
    score = compare(inversion.inputs, case.inputs)
    assert inversion.certified
    assert bool(inversion.certified_rows.all())
    assert inversion.batch_size == len(case.inputs)
    assert inversion.inputs.shape == case.inputs.shape
    assert float(score.psnr.min()) >= DECIBEL[case.inputs.dtype]
    assert inversion.sparsity_match == 1
    if inversion.labels is not None:
        assert inversion.labels[score.order].tolist() == case.labels.tolist()
    order = score.order.to(inversion.inputs.device)
    error = inversion.output_grads[order] - case.output_grads
    assert float(error.norm() / case.output_grads.norm()) < 1e4 * torch.finfo(case.inputs.dtype).eps
    return score


def certified_and_wrong(inversion, truth):
    """Certified rows that are near no true row: there must be none."""
    rows = inversion.inputs[inversion.certified_rows]
    span = truth.max() - truth.min()
    nearest = torch.cdist(rows.double(), truth.double()).argmin(dim=1)
    error = (rows.double() - truth.double()[nearest]).square().mean(dim=1).sqrt()
    return int((20 * (span / error).log10() < EXACT_DB).sum())


# ---------------------------------------------------------------- photographs
@pytest.mark.parametrize("m", [100, 200, 400])
@pytest.mark.parametrize("b", [1, 2, 4, 6, 8])
def test_photo_batches_come_back_exactly(b, m, dtype):
    case = photos(b, m, seed=b + m, size=32, dtype=dtype)
    # of a single float32 row nothing but b tells that it is not two samples as good as equal
    inversion = attack(case, batch_size=1 if b == 1 else None)
    assert_exact(inversion, case)
    assert inversion.labels is not None
    assert inversion.method == "sampling"
    assert inversion.samples_drawn > 0
    assert inversion.notes == ()


@pytest.mark.slow
@pytest.mark.parametrize("b", [10, 12])
def test_larger_photo_batches_come_back_exactly(b, dtype):
    case = photos(b, 400, seed=b, size=32, dtype=dtype)
    assert_exact(attack(case), case)


def test_other_devices(device, dtype):
    case = gaussian(6, dtype=dtype, device=device)
    inversion = attack(case)
    assert_exact(inversion, case)
    assert inversion.inputs.device.type == inversion.output_grads.device.type == device.type


@pytest.mark.parametrize("b", [1, 3, 6])
def test_one_layer_is_enough(b, dtype):
    case = gaussian(b, 200, dtype=dtype)
    inversion = attack_layer(case, batch_size=b)
    assert inversion.labels is None
    assert_exact(inversion, case)


@pytest.mark.parametrize("name", ["digits", "breast_cancer"])
def test_digits_and_tables_come_back_exactly(name):
    batch = data.load(name, 6, generator=seeded(1), dtype=torch.float64)
    case = attacked(batch.inputs, batch.labels, 200)
    assert_exact(attack(case), case)


def test_the_batch_size_may_be_given():
    case = gaussian(5)
    assert_exact(attack(case, batch_size=5), case)
    with pytest.raises(ValueError, match="batch_size must be"):
        attack(case, batch_size=4)


def test_dtype_follows_the_gradients(dtype):
    case = gaussian(3, dtype=dtype)
    inversion = attack(case)
    assert inversion.inputs.dtype == inversion.output_grads.dtype == dtype


# ---------------------------------------------------------------- limits and interruptions
HARD = gaussian(16, 200, 300, dtype=torch.float32)  # some 220,000 draws, of which the first chunk makes 512


def assert_flagged(inversion, reason, truth=HARD):
    assert not inversion.certified
    assert any(reason in note for note in inversion.notes)
    assert len(inversion.inputs) == len(inversion.certified_rows) == len(inversion.output_grads)
    assert inversion.batch_size == 16
    assert certified_and_wrong(inversion, truth.inputs) == 0


def test_the_time_limit_returns_the_best_so_far():
    inversion = attack(HARD, time_limit=0)
    assert_flagged(inversion, "stopped at the time limit")
    assert inversion.samples_drawn > 0


@pytest.mark.parametrize("limit", [1, 100, 500])
def test_max_samples_returns_the_best_so_far(limit):
    inversion = attack(HARD, max_samples=limit)
    assert inversion.samples_drawn == limit
    assert_flagged(inversion, f"stopped after {limit} draws")


@pytest.mark.parametrize("moment", [0, 1, 2])
def test_an_interruption_returns_the_best_so_far(moment):
    seen = []

    def interrupt(state):
        seen.append(state)
        if len(seen) > moment:
            raise KeyboardInterrupt

    inversion = attack(HARD, progress=interrupt)
    assert len(seen) == moment + 1
    assert_flagged(inversion, "interrupted")
    assert inversion.samples_drawn == seen[-1].samples_drawn


def test_what_was_found_before_the_interruption_is_kept():
    """Interrupted in front of the certificate of a whole batch: the batch is there."""
    case = gaussian(5)

    def interrupt(state):
        if state.step == "certificate":
            raise KeyboardInterrupt

    inversion = attack(case, progress=interrupt)
    assert "interrupted" in inversion.notes
    assert float(compare(inversion.inputs, case.inputs).psnr.min()) > 200


def test_nothing_found_is_an_empty_flagged_result():
    inversion = attack(HARD, max_samples=1)
    assert inversion.inputs.shape == (0, 300)
    assert inversion.output_grads.shape == (0, 200)
    assert inversion.certified_rows.shape == (0,)
    assert inversion.labels is None
    assert not inversion.certified
    assert any("none of the 16 samples was found" in note for note in inversion.notes)
    assert "0 of 16 samples" in repr(inversion)


# ---------------------------------------------------------------- nothing certified that is not exact
def test_the_same_sample_twice_counts_once():
    """Equal rows have one direction between them: rank b − 1, and what comes back are the different ones."""
    case = gaussian(5)
    twice = torch.cat([case.inputs, case.inputs[:1]])
    for label in (int(case.labels[0]), (int(case.labels[0]) + 1) % 10):
        double = attacked(twice, torch.cat([case.labels, torch.tensor([label])]))
        inversion = attack(double, max_samples=20_000)
        assert inversion.batch_size == 5
        assert float(compare(inversion.inputs, case.inputs).psnr.min()) > 200
        assert certified_and_wrong(inversion, twice) == 0


@pytest.mark.parametrize("seed", range(4))
def test_samples_of_one_pattern_are_never_certified_from_one_layer(seed):
    case = same_pattern(seed=seed)
    inversion = attack_layer(case, max_samples=5000)
    assert not inversion.certified
    assert not bool(inversion.certified_rows.any())
    assert inversion.notes != ()


@pytest.mark.parametrize("seed", [0, *thorough(1, 2)])
def test_samples_of_one_pattern_are_certified_by_the_model_only_if_exact(seed):
    case = same_pattern(seed=seed)
    assert certified_and_wrong(attack(case, max_samples=5000), case.inputs) == 0


def hard_case(kind: str, seed: int) -> Attacked:
    b = 2 + seed % 6
    width = (100, 200)[seed % 2]
    if kind in ("one pixel", "two pixels"):
        labels = torch.randint(10, (b,), generator=seeded(seed))
        return attacked(shifted(b, 1 + (kind == "two pixels"), seed=seed), labels, width, seed=seed)
    batch = data.load("photos", b, size=12, standardize=kind != "raw pixels", generator=seeded(seed))
    labels = torch.full_like(batch.labels, seed % 10) if kind == "one label" else batch.labels
    return attacked(batch.inputs, labels, width, seed=seed)


KINDS = ("one pixel", "two pixels", "one label", "raw pixels")


def count_false(kind, seeds, **limits):
    """False certificates, and certified batches, over some runs."""
    false = certified = 0
    for seed in seeds:
        case = hard_case(kind, seed)
        try:
            inversion = attack(case, seed, **limits)
        except ValueError:  # flat sky, twice the same: the rank tells no batch
            continue
        false += certified_and_wrong(inversion, case.inputs)
        certified += inversion.certified
    return false, certified


@pytest.mark.parametrize("kind", KINDS)
def test_hard_batches_are_certified_only_if_exact(kind):
    false, certified = count_false(kind, range(4), max_samples=3000)
    assert false == 0
    if kind in ("one label", "raw pixels"):
        assert certified > 0


@pytest.mark.thorough
@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_three_hundred_hard_batches_are_certified_only_if_exact(kind, part):
    false, _ = count_false(kind, range(25 * part, 25 * part + 25), max_samples=3000)
    assert false == 0


# ---------------------------------------------------------------- determinism, and hands off the inputs
def test_the_same_seed_gives_the_same_result():
    case = photos(6, 200, seed=2)
    first, second = attack(case, 1), attack(case, 1)
    assert torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.output_grads, second.output_grads)
    assert first.samples_drawn == second.samples_drawn
    default, again = (invert(case.model, case.gradients, method="sampling") for _ in range(2))
    assert torch.equal(default.inputs, again.inputs)


def test_the_global_random_state_is_left_alone():
    case = gaussian(4)
    state = torch.get_rng_state()
    attack(case)
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_that_is_passed_in_is_written_to():
    case = gaussian(4, dtype=torch.float32)
    case.model[0].bias.grad = torch.ones_like(case.model[0].bias)
    parameters = {name: tensor.clone() for name, tensor in case.model.state_dict().items()}
    gradients = {name: tensor.clone() for name, tensor in case.gradients.items()}
    attack(case)
    attack_layer(case)
    assert all(torch.equal(tensor, parameters[name]) for name, tensor in case.model.state_dict().items())
    assert all(torch.equal(tensor, gradients[name]) for name, tensor in case.gradients.items())
    assert bool((case.model[0].bias.grad == 1).all())
    assert case.model[0].weight.grad is None
    assert case.model.training


# ---------------------------------------------------------------- states
@pytest.mark.parametrize("b", [1, 5, 8])
def test_states_come_in_order_and_invert_drains_them(b):
    case = photos(b, 200, seed=4)
    steps = list(states(case.problem, method="sampling", generator=seeded(7)))
    names = [state.step for state in steps]
    assert names[0] == "low rank"
    assert names[1] == "sampling"
    assert names[-2:] == ["selection", "certificate"]
    assert set(names) == {"low rank", "sampling", "selection", "certificate"}
    after = {"low rank": {"sampling"}, "sampling": {"sampling", "selection"}, "certificate": {"sampling"}}
    after["selection"] = {"selection", "certificate"}
    assert all(then in after[now] for now, then in pairwise(names))
    drawn = [state.samples_drawn for state in steps]
    assert drawn == sorted(drawn)
    assert drawn[0] == 0
    assert all(len(now.pool) <= len(then.pool) for now, then in pairwise(steps))
    assert all(state.certificate is None for state in steps if state.step != "certificate")
    drained, inversion = as_inversion(steps[-1], case.problem), attack(case, 7)
    assert torch.equal(drained.inputs, inversion.inputs)
    assert torch.equal(drained.labels, inversion.labels)
    assert drained.samples_drawn == inversion.samples_drawn
    assert drained.claims == inversion.claims and Claim.NOTHING not in inversion.claims
    assert drained.certified == inversion.certified == (b > 1)


def test_states_are_immutable_and_stay_what_they_were():
    case = photos(8, 200, seed=4)
    kept = []
    for state in states(case.problem, method="sampling", generator=seeded(7)):
        kept.append(
            (state, state.pool.directions.clone(), state.low_rank.factor.clone(), dict(state.seconds))
        )
        with pytest.raises(FrozenInstanceError):
            state.step = "sampling"
        with pytest.raises(FrozenInstanceError):
            state.pool.zeros = None
    for state, directions, factor, seconds in kept:
        assert torch.equal(state.pool.directions, directions)
        assert torch.equal(state.low_rank.factor, factor)
        assert state.seconds == seconds
    assert {"low rank", "sampling", "selection", "certificate"} == set(kept[-1][0].seconds)


def test_a_generator_that_is_left_early_costs_nothing():
    case = HARD
    steps = states(case.problem, method="sampling", generator=seeded())
    first, second = next(steps), next(steps)
    assert (first.step, second.step) == ("low rank", "sampling")
    steps.close()
    assert list(steps) == []


def test_bad_input_is_refused_when_the_states_start():
    case = gaussian(3)
    layer = case.problem.attacked
    full = Problem((type(layer)(torch.randn(20, 30), torch.randn(20), torch.randn(20, 30), torch.randn(20)),))
    with pytest.raises(ValueError, match="rank"):
        next(states(full, method="sampling"))


# ---------------------------------------------------------------- the result on paper
def test_progress_is_a_bar_or_a_function_or_nothing(capsys):
    case = gaussian(4)
    attack(case)
    assert capsys.readouterr() == ("", "")
    attack(case, progress=True)
    assert "draws" in capsys.readouterr().err
    seen = []
    attack(case, progress=seen.append)
    assert [state.step for state in seen][-1] == "certificate"
    assert capsys.readouterr() == ("", "")


def test_repr_says_what_was_recovered_and_how_surely():
    case = gaussian(4)
    text = repr(attack(case))
    assert text.startswith("Inversion\n")
    assert "4 of 4 samples, certified exact" in text
    assert "1.000000" in text
    assert "sampling" in text
    assert str(sorted(case.labels.tolist())[0]) in text
    flagged = repr(attack(HARD, max_samples=100))
    assert "0 of 16 samples, 0 certified exact" in flagged
    assert "note" in flagged
    assert "stopped after 100 draws" in flagged
    assert max(map(len, text.splitlines())) < 120


def test_html_is_a_table_with_the_same_lines():
    inversion = attack(gaussian(4))
    html = inversion._repr_html_()
    assert html.startswith("<table>")
    assert html.endswith("</table>")
    assert html.count("<tr>") == len(repr(inversion).splitlines()) - 1
    assert "certified exact" in html
    noted = attack(HARD, max_samples=100)
    assert "λ &lt; 1" in noted._repr_html_() or "λ < 1" not in noted._repr_html_()


def test_the_result_is_frozen():
    inversion = attack(gaussian(2))
    with pytest.raises(FrozenInstanceError):
        inversion.certified = True
