"""Methods that cannot work on a problem are refused, and those that can are named."""

import pytest
import torch
from torch import nn

from spear_core import client
from spear_core.attack.options import METHODS
from spear_core.attack.plan import check_method, obstacles
from spear_core.errors import InputError
from spear_core.problem import LinearLayer, Problem
from tests.core.zoo import batch, mlp

MODEL = mlp()
GRADIENTS = client.gradients(MODEL, *batch())


def of_layer(activation, layers=2):
    layer = LinearLayer(
        GRADIENTS["0.weight"],
        GRADIENTS["0.bias"],
        MODEL[0].weight.detach(),
        MODEL[0].bias.detach(),
        activation,
    )
    return Problem((layer,) * layers)


@pytest.mark.parametrize(
    ("activation", "layers", "usable"),
    [
        (torch.relu, 2, {"sampling", "halfspace", "consistency"}),
        (torch.relu, 1, {"sampling", "halfspace"}),
        (nn.functional.gelu, 2, {"consistency"}),
        (nn.functional.gelu, 1, set()),
        (None, 2, set()),
    ],
)
def test_methods_that_cannot_work_are_refused(activation, layers, usable):
    problem = of_layer(activation, layers)
    assert {name for name, obstacle in obstacles(problem).items() if not obstacle} == usable
    for method in METHODS:
        if method in usable or (method == "auto" and usable):
            check_method(method, problem)
        elif usable:
            with pytest.raises(InputError, match=f'must be "auto" or .*got "{method}": it needs'):
                check_method(method, problem)
        else:
            with pytest.raises(InputError, match="got none that does"):
                check_method(method, problem)


def test_the_activation_is_named():
    with pytest.raises(InputError, match=r'"consistency", got "sampling": .*zeros of ReLU, and GELU follows'):
        check_method("sampling", of_layer(nn.functional.gelu))
