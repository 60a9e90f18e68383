"""Every row of the table "what I have, what to pass" in docs/gradients.md, executed."""

import copy
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import spear_core
from spear_core import client
from spear_core.__main__ import main
from spear_core.errors import InputError
from spear_core.study import defended
from spear_core.study.metrics import compare
from spear_core.study.sparsest import sparsest_batch
from tests.core.zoo import batch, mlp, randomise, seeded

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "gradients.md").read_text(encoding="utf-8")
TABLE = PAGE.partition("| what I have |")[2].partition("\n\n")[0]
ROWS = dict(re.findall(r"^\| (.+?) \| (.+) \|$", TABLE, flags=re.MULTILINE))
INPUTS, LABELS = batch()


def sent(model, loss=F.cross_entropy):
    model.zero_grad()
    loss(model(INPUTS), LABELS).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def stepped(model, **options):
    """Weights before and after a step."""
    before = [p.detach().clone() for p in model.parameters()]
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, **options)
    sent(model)
    optimiser.step()
    after = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():
        for parameter, old in zip(model.parameters(), before):
            parameter.copy_(old)
    return before, after


def exact(inversion):
    assert inversion.certified
    assert float(compare(inversion.inputs, INPUTS).psnr.min()) > 150


def backward(tmp_path):
    model = mlp()
    F.cross_entropy(model(INPUTS), LABELS).backward()
    exact(spear_core.invert(model, {name: p.grad for name, p in model.named_parameters()}))


def sequences(tmp_path):
    model = mlp()
    for container in (list, tuple, iter):
        exact(spear_core.invert(model, container(sent(model).values())))


def prefixes(tmp_path):
    model = mlp()
    gradients = sent(model)
    for prefix in ("module.", "_orig_mod.", "_module.", "_checkpoint_wrapped_module."):
        exact(spear_core.invert(model, {prefix + name: grad for name, grad in gradients.items()}))
    exact(spear_core.invert(nn.DataParallel(model), gradients))


def factors(tmp_path):
    model = mlp()
    gradients = sent(model, lambda output, labels: 3 * F.cross_entropy(output, labels, reduction="sum"))
    norm = torch.cat([grad.flatten() for grad in gradients.values()]).norm()
    exact(spear_core.invert(model, gradients))
    exact(spear_core.invert(model, {name: grad / norm for name, grad in gradients.items()}))


def representations(tmp_path):
    model = mlp()
    weight, *others = sent(model).values()
    exact(
        spear_core.invert(
            model, [weight.to_sparse(), *(grad.numpy() for grad in others[:-1]), None], batch_size=len(INPUTS)
        )
    )


def difference(tmp_path):
    model = mlp()
    before, after = stepped(model)
    exact(spear_core.invert(model, [old - new for old, new in zip(before, after)]))


def decayed(tmp_path):
    model = mlp()
    before, after = stepped(model, weight_decay=0.01)
    update = [old - new for old, new in zip(before, after)]
    with pytest.raises(InputError, match="weight decay; pass gradient − ") as caught:
        spear_core.invert(model, update)
    factor = float(re.search(r"− (\S+) × weights", str(caught.value)).group(1))
    exact(spear_core.invert(model, [change - factor * old for change, old in zip(update, before)]))


def fedavg(tmp_path):
    model = mlp()
    update = client.update(model, INPUTS, LABELS, steps=5, lr=0.01)
    exact(spear_core.invert(model, update, local_steps=5, lr=0.01))
    update = client.update(model, INPUTS, LABELS, steps=4, lr=0.01, batch_size=2)
    found = spear_core.invert(model, update, local_steps=4, lr=0.01, local_batch_size=2)
    assert float(compare(found.inputs, INPUTS).psnr.min()) > 150


def sums(tmp_path):
    model = mlp()
    before = [p.detach().clone() for p in model.parameters()]
    for _ in range(3):
        for parameter, (_, grad) in zip(model.parameters(), sent(model).items()):
            parameter.data -= 0.01 * grad
    update = [old - new.detach() for old, new in zip(before, model.parameters())]
    with torch.no_grad():
        for parameter, old in zip(model.parameters(), before):
            parameter.copy_(old)
    inversion = spear_core.invert(model, update)
    assert float(compare(inversion.inputs, INPUTS).psnr.min()) > 150
    assert not inversion.certified and any("local steps" in note for note in inversion.notes)


def noisy(tmp_path):
    model = mlp()
    gradients = {
        name: grad + 1e-4 * grad.std() * torch.randn(grad.shape, generator=seeded(), dtype=grad.dtype)
        for name, grad in sent(model).items()
    }
    inversion = spear_core.invert(model, gradients, batch_size=4, max_samples=200)
    assert not inversion.certified and not inversion.certified_rows.any()
    assert float(compare(inversion.inputs, INPUTS).psnr.median()) > 30


def one_sample(tmp_path):
    for behind in (nn.GELU(), nn.Softmax(dim=1), nn.LayerNorm(40)):
        model = randomise(nn.Sequential(nn.Linear(12, 40), behind, nn.Linear(40, 5)))
        grads = client.gradients(model, INPUTS[:1], LABELS[:1])
        inversion = spear_core.invert(model, grads, batch_size=1)
        assert inversion.certified
        assert float(compare(inversion.inputs, INPUTS[:1]).psnr.min()) > 150


def one_layer(tmp_path):
    model = mlp()
    gradients = sent(model)
    known = gradients["0.weight"], gradients["0.bias"], model[0].weight, model[0].bias
    exact(spear_core.invert_layer(*known, batch_size=len(INPUTS)))
    inversion = spear_core.invert_layer(*known)
    assert float(compare(inversion.inputs, INPUTS).psnr.min()) > 150 and not inversion.certified


class OfADict(nn.Module):
    """Takes its input by a name, which no made-up input has."""

    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, batch):
        assert "x" in batch
        return self.net(batch["x"])


def untraceable(tmp_path):
    model = OfADict()
    loss = F.cross_entropy(model({"x": INPUTS}), LABELS)
    grads = torch.autograd.grad(loss, list(model.parameters()))
    with pytest.raises(InputError, match="example_input"):
        spear_core.invert(model, grads)
    exact(spear_core.invert(model, grads, example_input=({"x": torch.ones(1, 12).double()},)))


def batch_norm(tmp_path):
    model = nn.Sequential(
        nn.Linear(12, 60),
        nn.BatchNorm1d(60),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(60, 30),
        nn.ReLU(),
        nn.Linear(30, 5),
    )
    model = randomise(model)
    exact(spear_core.invert(model.eval(), sent(model)))


def no_buffers(tmp_path):
    x, y = torch.rand(6, 20, generator=seeded(0)), torch.arange(6) % 4
    torch.manual_seed(0)
    norm = nn.Sequential(nn.Linear(20, 60), nn.BatchNorm1d(60), nn.ReLU())
    model = nn.Sequential(norm, nn.Linear(60, 60), nn.ReLU(), nn.Linear(60, 40), nn.ReLU(), nn.Linear(40, 4))
    features = norm.train()(x).detach()
    gradients = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    with pytest.raises(InputError, match="BatchNorm in train mode"):
        spear_core.invert(model, gradients)
    found = spear_core.invert(model, gradients, layer="1")
    assert found.certified and compare(found.inputs, features).exact.all()


def taken_in(tmp_path):
    """What the layer took is what comes back, and a note says what that is."""
    for before, words in (
        (nn.Dropout(0.2), "zeros and a factor 1/(1 − p)"),
        (nn.LayerNorm(12), "without each one's mean and size"),
        (nn.RMSNorm(12), "without each one's size"),
    ):
        model, taken = nn.Sequential(before, mlp()).double().train(), []
        model[0].register_forward_hook(lambda *call, taken=taken: taken.append(call[2].detach()))
        found = spear_core.invert(model, sent(model))
        assert found.certified and any(words in note for note in found.notes)
        assert float(compare(found.inputs, taken[0]).psnr.min()) > 150


def zeros_alone(tmp_path):
    for defence, value in (("dropout", 0.5), ("minibatch", 2)):
        message = defended.message(defence, value)
        grads = message.gradients["0.weight"], message.gradients["0.bias"]
        inputs = sparsest_batch(*grads, 8)
        assert compare(inputs, message.batch.inputs).exact.all()


def weight_norm(tmp_path):
    model = mlp()
    for layer in [module for module in model if isinstance(module, nn.Linear)]:
        nn.utils.parametrizations.weight_norm(layer)
    exact(spear_core.invert(model, sent(model)))


def spectral_norm(tmp_path):
    model = nn.Sequential(nn.Linear(12, 12), nn.ELU(), mlp()).double()
    nn.utils.parametrizations.spectral_norm(model[0])
    gradients = sent(model.eval())
    with pytest.raises(InputError, match="a weight of its own, got '_SpectralNorm'"):
        spear_core.invert(model, gradients, layer="0")
    found = spear_core.invert(model, gradients, layer="2.0", batch_size=len(INPUTS))
    assert found.certified
    assert float(compare(found.inputs, model[:2](INPUTS).detach()).psnr.min()) > 150


def files(tmp_path):
    model = mlp()
    torch.save(model, tmp_path / "model.pt")
    torch.save(sent(model), tmp_path / "gradients.pt")
    np.savez(tmp_path / "gradients.npz", *(grad.numpy() for grad in sent(model).values()))
    kinds = ["gradients.pt", "gradients.npz"]
    if importlib.util.find_spec("safetensors"):
        from safetensors.torch import save_file

        save_file(sent(model), tmp_path / "gradients.safetensors")
        kinds.append("gradients.safetensors")
    for kind in kinds:
        out = tmp_path / "out" / kind
        assert main(["invert", str(tmp_path / "model.pt"), str(tmp_path / kind), "--out", str(out)]) == 0
        assert float(compare(torch.from_numpy(np.load(out / "inputs.npy")), INPUTS).psnr.min()) > 150


def pictures(tmp_path):
    x, y = torch.rand(2, 1, 6, 6, generator=seeded(0)), torch.arange(2)
    torch.manual_seed(0)
    front = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12).eval(), nn.ReLU())
    model = nn.Sequential(front, nn.Flatten(), nn.Linear(12 * 36, 80), nn.ReLU(), nn.Linear(80, 5))
    gradients = torch.autograd.grad(F.cross_entropy(model(x), y), list(model.parameters()))
    found = spear_core.invert(model, gradients, input_shape=(1, 6, 6))
    assert found.network_inputs_certified.all()
    assert compare(found.network_inputs.flatten(1), x.flatten(1)).exact.all()


def buffers(tmp_path):
    x, y = torch.rand(6, 20, generator=seeded(0)), torch.arange(6) % 4
    for width in (60, 15):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 40))
        model = nn.Sequential(*model, nn.ReLU(), nn.Linear(40, 4)).train()
        after = copy.deepcopy(model)
        gradients = torch.autograd.grad(F.cross_entropy(after(x), y), list(after.parameters()))
        found = spear_core.invert(model, gradients, buffers=after.state_dict(), time_limit=10)
        if width == 60:
            assert found.certified and compare(found.inputs, x).exact.all()
        else:
            assert not found.certified_rows.any() and found.notes


def otherwise(tmp_path):
    model = mlp()
    gradients = sent(model)
    gradients["0.weight"] = gradients["0.weight"].sign()
    assert "Adam" in spear_core.diagnose(model, gradients).verdict


CHECKS = {
    "gradients from `loss.backward()`": backward,
    "gradients as a list, a tuple or a generator": sequences,
    "names with `module.`, `_orig_mod.` or `_module.` in front": prefixes,
    "a loss that was summed, weighted, scaled or clipped to a norm": factors,
    "NumPy arrays, sparse tensors, None where a branch was unused": representations,
    "weights before and after a client's step of SGD": difference,
    "the same, with weight decay in it": decayed,
    "a FedAvg update: the difference after several local steps of SGD": fedavg,
    "the sum of several local steps, or of several clients": sums,
    "gradients with noise on them": noisy,
    "one sample, whatever follows the layer": one_sample,
    "a network with convolutions, pools, BatchNorm in eval mode before its first linear layer": pictures,
    "one linear layer only": one_layer,
    "a model that cannot be traced": untraceable,
    "a model with BatchNorm or Dropout": batch_norm,
    "BatchNorm in training mode right after the layer, and the running statistics after the client's step": buffers,
    "the same, where the client sends no running statistics": no_buffers,
    "dropout switched on, LayerNorm or RMSNorm before the layer": taken_in,
    "dropout switched on after the layer, or FedAvg in minibatches": zeros_alone,
    "weight norm, `torch.nn.utils.parametrizations.weight_norm`": weight_norm,
    "spectral norm": spectral_norm,
    "files": files,
    "something else, or an error": otherwise,
}


def test_the_table_is_what_is_tested():
    assert list(ROWS) == list(CHECKS)


@pytest.mark.parametrize("row", CHECKS)
def test_each_row_works_as_it_says(row, tmp_path):
    CHECKS[row](tmp_path)
