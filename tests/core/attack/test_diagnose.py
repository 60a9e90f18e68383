"""The diagnosis says what each layer would give, and agrees with what `invert` then does."""

import pytest
import torch
from torch import nn

from spear_core import client, invert
from spear_core.attack.diagnose import diagnose
from spear_core.client.networks import fully_connected
from spear_core.errors import InputError
from tests.core.zoo import (
    CLASSES,
    WIDTH,
    BatchNormMLP,
    N,
    ResidualMLP,
    SmallCNN,
    batch,
    mlp,
    randomise,
    seeded,
)

ALL = ("sampling", "halfspace", "consistency")


def test_a_plain_network():
    model = mlp()
    found = diagnose(model, client.gradients(model, *batch()))
    assert [layer.name for layer in found.layers] == ["0", "2", "4"]
    assert [layer.rank for layer in found.layers] == [4, 4, 4]
    assert [layer.follows for layer in found.layers] == ["ReLU", "ReLU", "output"]
    assert [layer.methods for layer in found.layers] == [ALL, ALL, ()]
    assert found.attacked == "0" and found["0"].obstacle == "" and found["module.0"] is found["0"]
    assert found["4"].obstacle == "sampling, halfspace, consistency: no elementwise activation follows"


def test_the_share_of_zeros_is_counted():
    model = mlp()
    gradients = client.gradients(model, *batch())
    found = diagnose(model, gradients)
    for layer in found.layers:
        assert layer.zeros == pytest.approx(float((gradients[f"{layer.name}.weight"] == 0).double().mean()))


def test_it_reads_as_a_table():
    model = mlp()
    found = diagnose(model, client.gradients(model, *batch()))
    head, *rows, verdict = repr(found).splitlines()[1:]
    assert head.split()[:5] == ["layer", "m", "×", "n", "rank"] and len(rows) == 3
    assert rows[0].split()[:6] == ["0", "←", "40", "×", "12", "4"]
    assert verdict == "  invert(model, gradients) attacks layer '0' by sampling or halfspace or consistency"
    page = found._repr_html_()
    assert page.count("<tr>") == 4 and page.count("<th") == 7 and page.count("<td") == 21


def test_html_is_escaped():
    model = nn.Sequential(nn.Linear(3, 2))
    found = diagnose(model, [torch.ones(2, 3), torch.ones(2)])
    assert "<script" not in found._repr_html_() and "&#x27;0&#x27;" in found._repr_html_()


def test_large_batches_leave_sampling_out():
    model = fully_connected(300, 200, 3, CLASSES, generator=seeded())
    x, y = batch(b=60, n=300, dtype=torch.float32)
    found = diagnose(model, client.gradients(model, x, y))
    assert found["0"].methods == ("halfspace", "consistency") and found["0"].rank == 60


def test_activations_without_zeros_leave_consistency():
    model = fully_connected(N, [WIDTH, 20], 3, CLASSES, activation=nn.GELU, generator=seeded()).double()
    found = diagnose(model, client.gradients(model, *batch()))
    assert found["0"].methods == ("consistency",) and found["0"].follows == "GELU"
    single = nn.Sequential(
        nn.Linear(N, WIDTH), nn.GELU(), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, CLASSES)
    ).double()
    found = diagnose(single, client.gradients(single, *batch()))
    assert found.attacked is None
    assert "sampling, halfspace: it needs the zeros of ReLU, and GELU follows" in found["0"].obstacle
    assert (
        "consistency: it needs the gradient of a linear layer right after the activation"
        in found["0"].obstacle
    )


def test_what_stands_in_the_way_is_said_layer_by_layer():
    model = mlp()
    gradients = client.gradients(model, *batch())
    gradients["2.weight"] = torch.randn(20, 40, generator=seeded(3), dtype=torch.float64)
    gradients["4.bias"] = None
    found = diagnose(model, gradients)
    assert found["0"].methods == ALL and found["2"].methods == () and found["4"].rank is None
    assert "noise" in found["2"].obstacle and "must include '4.bias'" in found["4"].obstacle


def test_another_layer_is_proposed_where_the_first_cannot_be_attacked():
    model = mlp()
    gradients = client.gradients(model, *batch())
    gradients["0.weight"] = gradients["0.weight"].sign()
    found = diagnose(model, gradients)
    assert found.attacked is None
    assert "layer '0' cannot be attacked: " in found.verdict
    assert found.verdict.endswith("; try layer='2' (ReLU follows; sampling or halfspace or consistency)")


def test_a_refusal_of_the_whole_is_a_verdict_too():
    model = mlp()
    gradients = client.gradients(model, *batch())
    found = diagnose(model, {name: gradients[name] for name in ("4.weight", "4.bias")})
    assert found.attacked is None and "refuses: gradients must include a layer before" in found.verdict
    with pytest.raises(InputError, match=r"got 'fc.weight'"):
        diagnose(model, {"fc.weight": torch.ones(1)})


def test_batch_norm_in_train_mode():
    model = BatchNormMLP().train()
    found = diagnose(model, client.gradients(model, *batch(dtype=torch.float32)))
    assert "block1.0" in found.verdict and found["block1.0"].methods == ()


def test_public_style_architectures():
    x, y = batch()
    tabular = randomise(BatchNormMLP())
    found = diagnose(tabular, client.gradients(tabular, x, y))
    assert [layer.follows for layer in found.layers] == ["BatchNorm1d → ReLU", "BatchNorm1d → ReLU", "output"]
    residual = randomise(ResidualMLP())
    found = diagnose(residual, client.gradients(residual, x, y))
    assert [layer.name for layer in found.layers] == ["stem", "up.0", "down.0", "up.1", "down.1", "head"]
    assert [layer.follows for layer in found.layers] == ["ReLU", "ReLU", "add", "ReLU", "add", "output"]
    assert found["up.1"].methods == ALL and found["down.0"].methods == ()
    network = randomise(SmallCNN())
    images = torch.randn(4, 1, 8, 8, generator=seeded(), dtype=torch.float64)
    found = diagnose(network, client.gradients(network, images, y))
    assert found.attacked == "classifier.1" and "not of the network" in found["classifier.1"].notes[0]


@pytest.mark.parametrize("seed", range(5))
def test_one_hot_inputs_are_no_sparse_update(seed):
    model = nn.Sequential(nn.Linear(N, WIDTH), nn.ReLU(), nn.Linear(WIDTH, CLASSES))
    x = torch.eye(N)[torch.randperm(N, generator=seeded(seed))[:3]]
    found = diagnose(model, client.gradients(model, x, torch.tensor([0, 1, 2])))
    assert found.attacked == "0" and found["0"].rank == 3


def test_gradients_clipped_tensor_by_tensor_are_refused_here_as_there():
    model = mlp()
    sent = {name: g / g.norm() for name, g in client.gradients(model, *batch()).items()}
    found = diagnose(model, sent)
    assert found.attacked is None
    assert all(layer.methods == () and "one norm" in layer.obstacle for layer in found.layers[:2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_output_layer_of_rank_one_can_be_attacked_where_it_is_said_to(dtype):
    """Two classes: the errors of all samples are collinear, whatever its bias gradient adds up to."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 27), nn.ReLU(), nn.Linear(27, 2)).to(dtype)
    x, y = torch.randn(6, 30).to(dtype), torch.tensor([0, 1] * 3)
    sent = client.gradients(model, x, y)
    assert diagnose(model, sent)["2"].methods == ("closed form",)
    found = invert(model, sent, "2", time_limit=1)
    assert not bool(found.certified_rows.any())


def test_a_refusal_proposes_two_layers_at_most():
    """To look at each of many takes longer than a time limit may."""
    torch.manual_seed(0)
    layers = [layer for _ in range(6) for layer in (nn.Linear(9, 9), nn.Tanh())]
    model = nn.Sequential(*layers, nn.Linear(9, 3))
    loss = nn.functional.cross_entropy(model(torch.randn(2, 9)), torch.arange(2))
    with pytest.raises(InputError, match="needs the zeros of ReLU") as refusal:
        invert(model, torch.autograd.grad(loss, list(model.parameters())), method="sampling")
    assert str(refusal.value).count("layer='") <= 2
