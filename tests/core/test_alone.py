"""The library needs five packages and what these need: everything else is made impossible to import."""

import subprocess
import sys

import pytest

FIVE = ("torch", "numpy", "scipy", "tqdm", "pillow")
GUARD = """
import importlib.metadata as metadata, re, sys

def needed(names):
    found, left = set(), list(names)
    while left:
        name = re.sub("[-_.]+", "-", left.pop()).lower()
        if name in found:
            continue
        try:
            wanted = metadata.requires(name) or []
        except metadata.PackageNotFoundError:  # for another platform
            continue
        found.add(name)
        left += [re.match(r"[\\w.-]+", line)[0] for line in wanted if "extra ==" not in line]
    return found

allowed = needed({five!r})
def normal(name):
    return re.sub("[-_.]+", "-", name).lower()
blocked = {{
    module for module, owners in metadata.packages_distributions().items()
    if not {{normal(owner) for owner in owners}} & allowed and normal(owners[0]) != "spear-tutorial"
}} - set(sys.stdlib_module_names) | {{"spear_widgets"}}

class Block:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ImportError(f"{{name}} is not one of what the library needs")

assert {{"matplotlib", "sklearn", "skimage", "ipywidgets", "torchvision"}} <= blocked
sys.meta_path.insert(0, Block)
"""
USE = """
import torch, spear_core
from spear_core import client

torch.manual_seed(0)
def network(*widths):
    layers = [l for a, b in zip(widths, widths[1:]) for l in (torch.nn.Linear(a, b), torch.nn.ReLU())]
    return torch.nn.Sequential(*layers[:-1]).double()

model, inputs, labels = network(30, 100, 100, 10), torch.rand(6, 30).double(), torch.arange(6)
gradients = client.gradients(model, inputs, labels)
for method in ("auto", "sampling", "halfspace", "consistency"):
    found = spear_core.invert(model, gradients, method=method)
    assert found.certified and torch.cdist(found.inputs, inputs).min(dim=1).values.max() < 1e-8, method
update = client.update(model, inputs[:4], labels[:4], steps=3, lr=0.01)
assert spear_core.invert(model, update, local_steps=3, lr=0.01).certified
assert "0" in repr(spear_core.diagnose(model, gradients))
import importlib, pkgutil
for module in pkgutil.walk_packages(spear_core.__path__, "spear_core."):
    importlib.import_module(module.name)
print("certified")
"""


@pytest.mark.slow
def test_the_library_certifies_with_five_packages_alone():
    code = GUARD.format(five=FIVE) + USE
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "certified"
