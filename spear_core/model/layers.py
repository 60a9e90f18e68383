"""The chain of layers: from a model and its gradients to consecutive linear layers, with what is affine folded in."""

import operator
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from spear_core.errors import InputError, UnknownLayer
from spear_core.model.calls import LinearCall
from spear_core.model.checks import as_real, check_finite, check_gradient, check_magnitude, check_one_device
from spear_core.model.folding import Affine, fold_after, fold_before
from spear_core.model.following import Following, follow
from spear_core.model.graph import before, is_dropout, label
from spear_core.model.parameters import Gradients, strip
from spear_core.model.reading import Reading, check_present, choose, names, read
from spear_core.problem import LinearLayer, Problem

_EVAL = "; the BatchNorm after it has one: call model.eval() if the client had it so, else pass buffers="
TAKEN = {"LayerNorm": "mean and size", "layer_norm": "mean and size", "RMSNorm": "size", "rms_norm": "size"}
RESHAPES = ("Flatten", "flatten", "view", "reshape", "Identity")  # calls that leave an input as it was


def read_problem(model: nn.Module, gradients: Gradients, layer: str | None = None) -> Problem:
    """What the server can attack: a linear layer, what follows it, and the linear layers after that.

    Args:
        model: any module; its mode, gradients and buffers stay as they are.
        gradients: see `spear_core.model.parameters.normalise`.
        layer: dotted name of the attacked `nn.Linear`; by default the first in forward order that has a
            gradient, and its weight for itself.

    Returns:
        The attacked layer first. Affine maps between a layer and its activation (BatchNorm in eval mode) are
        folded into the layer, those after it into the next one.

    Raises:
        InputError: bad gradients; a model that cannot be traced; a BatchNorm in train mode.
        UnknownLayer: no such layer, no linear layer at all, or one without a bias or a weight of its own.
        MissingGradient: the gradients of the layer are not all there.

    >>> model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> batch = model(torch.ones(1, 3)).sum()
    >>> [layer.name for layer in read_problem(model, torch.autograd.grad(batch, model.parameters())).layers]
    ['0', '2']
    """
    reading = read(model, gradients)
    call, notes = choose(reading, layer)
    return problem_of(reading, call, notes)


def problem_of(reading: Reading, call: LinearCall, notes: Sequence[str] = ()) -> Problem:
    """The problem of attacking one layer, with `notes` on what is known already; refuses as `read_problem` does."""
    check_present(reading, call)
    layers, branches, found = _chain(reading, call)
    unused = [f"left out: {error}" for error in reading.spoilt.values()]
    return Problem(tuple(layers), (*notes, *found, *_source_notes(reading, call), *unused), branches)


def _chain(reading: Reading, call: LinearCall) -> tuple[list[LinearLayer], bool, list[str]]:
    """The attacked layer and those that follow it one after another; whether other ways lead on; notes."""
    layers: list[LinearLayer] = []
    branches = False
    notes: list[str] = []
    incoming: Affine | None = None
    while True:
        following = follow(reading.traced, call, reading.calls)
        layer = _layer(reading, call, following, incoming)
        if layer is None:
            if not layers:
                raise UnknownLayer(
                    f"layer {call.name!r} must have a bias, got bias=False: it sets the samples' scale"
                    + (_EVAL if _is_normalised(reading, following) else "")
                )
            notes.append(f"the chain ends before layer {call.name!r}, which has no bias")
            break
        if not layers:
            check_gradient(layer, _is_normalised(reading, following))
            notes += _attacked_notes(reading, call, following)
        layers.append(layer)
        # only a layer whose gradient is all its own continues the chain: no other use, nothing missing
        ready = [
            taker
            for taker in following.layers
            if reading.uses[taker.weight] == 1
            and not taker.obstacle
            and reading.gradient(taker.weight) is not None
            and (taker.bias is None or reading.gradients.get(strip(taker.bias)) is not None)
        ]
        if following.layers and not ready:
            ends = names([taker.name for taker in following.layers])
            notes.append(f"the chain ends before layer {ends}: no gradient of its own")
        if not ready or following.masked or reading.uses[call.weight] > 1:
            break
        # of several takers the widest says most
        branches = branches or following.branches
        call = max(ready, key=lambda taker: taker.shape[0])
        incoming = following.after
    return layers, branches, notes


def _layer(
    reading: Reading, call: LinearCall, following: Following, incoming: Affine | None
) -> LinearLayer | None:
    """One layer with what is affine before and after it folded in; None if it has no bias at all."""
    root = reading.traced.root
    weight = as_real(root.get_parameter(call.weight), f"weight of {call.name!r}")
    weight_grad = reading.gradients[strip(call.weight)]
    assert weight_grad is not None
    if call.bias is not None:
        bias = as_real(root.get_parameter(call.bias), f"bias of {call.name!r}")
        bias_grad = reading.gradients[strip(call.bias)]
    else:
        bias, bias_grad = torch.zeros_like(weight[:, 0]), _shift_gradient(reading, following.before)
    if bias_grad is None:
        return None
    if call.factors != (1.0, 1.0):
        c, d = call.factors
        weight, bias, weight_grad, bias_grad = c * weight, d * bias, weight_grad / c, bias_grad / d
    # the weights are the server's own, but nobody has looked at them yet
    tensors = {f"weight of {call.name!r}": weight, f"bias of {call.name!r}": bias}
    for name, tensor in tensors.items():
        check_finite(tensor, name)
    check_one_device(
        tensors | {f"gradient of {call.weight!r}": weight_grad, "gradient of its bias": bias_grad}
    )
    check_magnitude(reading.largest(strip(call.weight)), f"the gradient of {call.weight!r}")
    # what is affine beside the layer belongs to it
    layer = LinearLayer(weight_grad, bias_grad, weight, bias, following.activation, call.name)
    if following.before is not None:
        layer = fold_after(layer, following.before, own_bias=call.bias is not None)
    return layer if incoming is None else fold_before(layer, incoming)


def _shift_gradient(reading: Reading, affine: Affine | None) -> Tensor | None:
    """A layer without bias before a BatchNorm: the gradient of that one's shift is the bias gradient."""
    if affine is None or len(affine.modules) != 1:
        return None
    return reading.gradients.get(strip(f"{affine.modules[0]}.bias"))


def _attacked_notes(reading: Reading, call: LinearCall, following: Following) -> list[str]:
    """What a reader should know of what follows the attacked layer; no BatchNorm that is in train mode only here."""
    stopped, normalised = following.stopped, _is_normalised(reading, following) and following.before is None
    if stopped is not None and normalised and reading.gradient(call.bias) is not None:
        raise InputError(
            f"{label(stopped, reading.traced.root)} after layer {call.name!r} must be in eval mode, as it was at the "
            "client: in train mode the bias gradient is zero, and this one is not; call model.eval()"
        )
    notes = []
    if (uses := reading.uses[call.weight]) > 1:
        notes.append(f"layer {call.name!r} is used {uses} times: rows of all uses come together")
    if following.masked:
        notes.append(
            f"{following.masked} in train mode after layer {call.name!r}: its mask adds zeros that lower λ"
        )
    return notes


def _is_normalised(reading: Reading, following: Following) -> bool:
    """Whether a BatchNorm follows: folded in, or in train mode, where it ends what can be followed."""
    stopped = following.stopped if following.activation is None else None
    return following.before is not None or (stopped is not None and _normalises_batch(reading, stopped))


def _normalises_batch(reading: Reading, node: fx.Node) -> bool:
    if node.op == "call_module":
        module = reading.traced.root.get_submodule(str(node.target))
        return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
    return label(node, reading.traced.root) == "batch_norm"


def _source_notes(reading: Reading, call: LinearCall) -> list[str]:
    root = reading.traced.root
    node = call.node.all_input_nodes[0]
    while label(node, root) in RESHAPES and node.all_input_nodes:
        node = node.all_input_nodes[0]
    if node.target is operator.getitem and isinstance(node.args[1], str):  # of a dict of inputs
        node = node.all_input_nodes[0]
    if node.op == "placeholder":
        return []
    note, last = f"rows are inputs of layer {call.name!r}, not of the network", label(node, root)
    note += f", after {last}: without each one's {TAKEN[last]}" if last in TAKEN else ""
    masks = sorted({label(other, root) for other in before(node) if is_dropout(other, root)})
    what = "in train mode: what masks did, zeros and a factor 1/(1 − p), is in them"
    return [note + f", after {' and '.join(masks)} {what}" if masks else note]
