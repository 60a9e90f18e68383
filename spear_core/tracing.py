"""From a model and its gradients to what the attack works on: consecutive linear layers, BatchNorm folded in."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, fx, nn

from spear_core import part
from spear_core.checks import check_finite, check_gradient, check_one_device, largest_entry
from spear_core.errors import InputError, MissingGradient, UnknownLayer
from spear_core.following import Affine, Following, follow
from spear_core.graph import LinearCall, Traced, label, linear_calls, trace
from spear_core.parameters import Gradients, normalise, strip
from spear_core.problem import LinearLayer, Problem


@dataclass(frozen=True)
class Reading:
    """A model and its gradients, put together.

    Attributes:
        traced: the model's graph.
        calls: its linear layers in forward order, each at its first use.
        gradients: by parameter name.
        uses: how often the forward pass uses each weight.
    """

    traced: Traced
    calls: list[LinearCall]
    gradients: dict[str, Tensor | None]
    uses: Counter[str]

    def gradient(self, name: str | None) -> Tensor | None:
        """Gradient of a parameter; None where there is none, or it is all zero."""
        found = None if name is None else self.gradients.get(strip(name))
        return None if found is None or float(largest_entry(found)) == 0 else found


def read_problem(model: nn.Module, gradients: Gradients, layer: str | None = None) -> Problem:
    """What the server can attack: a linear layer, what follows it, and the linear layers after that.

    Args:
        model: any module; its mode, gradients and buffers stay as they are.
        gradients: see `spear_core.parameters.normalise`.
        layer: dotted name of the attacked `nn.Linear`; by default the first in forward order that a gradient reached.

    Returns:
        The attacked layer first. Affine maps between a layer and its activation (BatchNorm in eval mode) are
        folded into the layer, those after it into the next one.

    Raises:
        InputError: bad gradients; a model that cannot be traced; a BatchNorm in train mode.
        UnknownLayer: no such layer, or one that is no linear layer with a bias.
        MissingGradient: the gradients of the layer are not all there.

    >>> model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> batch = model(torch.ones(1, 3)).sum()
    >>> [layer.name for layer in read_problem(model, torch.autograd.grad(batch, model.parameters())).layers]
    ['0', '2']
    """
    reading = read(model, gradients)
    call, notes = _choose(reading, layer)
    layers, found = _chain(reading, call)
    check_gradient(layers[0])
    notes += found + _source_notes(reading, call)
    return Problem(tuple(layers), part.replay(reading.traced, call.source), tuple(notes))


def read(model: nn.Module, gradients: Gradients) -> Reading:
    """Gradients by name and the model's graph.

    Raises:
        InputError: see `read_problem`; also if the model has no linear layer.
    """
    named = normalise(model, gradients)
    traced = trace(model)
    calls = linear_calls(traced)
    if not calls:
        raise UnknownLayer(f"model must use at least one nn.Linear, got {type(model).__name__} without any")
    uses = Counter(call.weight for call in calls)
    first = list({call.weight: call for call in reversed(calls)}.values())[::-1]
    return Reading(traced, first, named, uses)


def _choose(reading: Reading, layer: str | None) -> tuple[LinearCall, list[str]]:
    """The attacked layer: the named one, or the first that a gradient reached."""
    if layer is not None:
        return _named(reading, layer), []
    skipped: list[str] = []
    for call in reading.calls:
        if reading.gradient(call.weight) is None and reading.gradient(call.bias) is None:
            skipped.append(call.name)
            continue
        _check_present(reading, call)
        if skipped and call is reading.calls[-1]:
            raise MissingGradient(
                f"gradients must include a layer before the output layer {call.name!r}, got none for {_names(skipped)}"
            )
        return call, [
            f"no gradient reached layer {_names(skipped)}; attacked {call.name!r}"
        ] if skipped else []
    raise MissingGradient(f"gradients must include a linear layer, got none for {_names(skipped)}")


def _named(reading: Reading, layer: str) -> LinearCall:
    names = [call.name for call in reading.calls]
    if not isinstance(layer, str) or strip(layer) not in names:
        modules = {strip(name): module for name, module in reading.traced.root.named_modules()}
        found = modules.get(strip(layer)) if isinstance(layer, str) and layer else None
        got = repr(layer) if found is None else f"{layer!r}, which is {type(found).__name__}"
        unused = " that the forward pass never uses" if isinstance(found, nn.Linear) else ""
        raise UnknownLayer(
            f"layer must be the name of an nn.Linear, one of {_names(names)}, got {got}{unused}"
        )
    call = reading.calls[names.index(strip(layer))]
    if reading.gradient(call.weight) is None and reading.gradient(call.bias) is None:
        raise MissingGradient(
            f"gradients must include layer {call.name!r}: no gradient reached layer {call.name!r}"
        )
    _check_present(reading, call)
    return call


def _check_present(reading: Reading, call: LinearCall) -> None:
    """Refuse a layer of which only the weight's or only the bias' gradient is there."""
    if strip(call.weight) not in reading.gradients:
        raise UnknownLayer(
            f"layer {call.name!r} must have a weight of its own, got one computed from others (a parametrisation)"
        )
    for have, lack in ((call.bias, call.weight), (call.weight, call.bias)):
        absent = lack is not None and reading.gradients.get(strip(lack)) is None
        if absent and reading.gradient(have) is not None:
            raise MissingGradient(f"gradients must include {lack!r}, got {have!r} only")
    if reading.gradient(call.weight) is None:
        raise MissingGradient(
            f"the gradient of {call.weight!r} must not be all zero beside that of {call.bias!r}"
        )


def _chain(reading: Reading, call: LinearCall) -> tuple[list[LinearLayer], list[str]]:
    """The attacked layer and the linear layers that follow it one after another."""
    layers: list[LinearLayer] = []
    notes: list[str] = []
    incoming: Affine | None = None
    while True:
        following = follow(reading.traced, call, reading.calls)
        layer = _layer(reading, call, following, incoming)
        if layer is None:
            if not layers:
                raise UnknownLayer(
                    f"layer {call.name!r} must have a bias, got bias=False: it sets the samples' scale"
                )
            notes.append(f"the chain ends before layer {call.name!r}, which has no bias")
            return layers, notes
        layers.append(layer)
        notes += _following_notes(reading, call, following, attacked=len(layers) == 1)
        ready = [
            taker
            for taker in following.layers
            if reading.uses[taker.weight] == 1
            and reading.gradients.get(strip(taker.weight)) is not None
            and (taker.bias is None or reading.gradients.get(strip(taker.bias)) is not None)
        ]
        if following.layers and not ready:
            names = _names([taker.name for taker in following.layers])
            notes.append(f"the chain ends before layer {names}: no gradient of its own")
        if not ready or following.masked or reading.uses[call.weight] > 1:
            return layers, notes
        call = max(ready, key=lambda taker: taker.width)
        incoming = following.after


def _layer(
    reading: Reading, call: LinearCall, following: Following, incoming: Affine | None
) -> LinearLayer | None:
    """One layer with what is affine before and after it folded in; None if it has no bias at all."""
    root = reading.traced.root
    weight = root.get_parameter(call.weight).detach()
    weight_grad = reading.gradients[strip(call.weight)]
    assert weight_grad is not None
    if call.bias is not None:
        bias, bias_grad = root.get_parameter(call.bias).detach(), reading.gradients[strip(call.bias)]
    else:
        bias, bias_grad = torch.zeros_like(weight[:, 0]), _shift_gradient(reading, following.before)
    if bias_grad is None:
        return None
    tensors = {f"weight of {call.name!r}": weight, f"bias of {call.name!r}": bias}
    for name, tensor in tensors.items():
        check_finite(tensor, name)
    check_one_device(
        tensors | {f"gradient of {call.weight!r}": weight_grad, "gradient of its bias": bias_grad}
    )
    layer = LinearLayer(weight_grad, bias_grad, weight, bias, following.activation, call.name)
    if following.before is not None:
        layer = _fold_after(layer, following.before, own_bias=call.bias is not None)
    return layer if incoming is None else _fold_before(layer, incoming)


def _shift_gradient(reading: Reading, affine: Affine | None) -> Tensor | None:
    """A layer without bias before a BatchNorm: the gradient of that one's shift is the bias gradient."""
    if affine is None or len(affine.modules) != 1:
        return None
    return reading.gradients.get(strip(f"{affine.modules[0]}.bias"))


def _fold_after(layer: LinearLayer, affine: Affine, *, own_bias: bool) -> LinearLayer:
    """Layer and affine map as one layer: u = s (W x + β) + t has W' = s W, β' = s β + t, ∂L/∂u = ∂L/∂z / s."""
    s, t = affine.scale, affine.shift
    inverse = torch.where(s == 0, 0.0, 1 / s).to(layer.weight_grad.dtype)
    return replace(
        layer,
        weight=s[:, None] * layer.weight,
        bias=s * layer.bias + t,
        weight_grad=inverse[:, None] * layer.weight_grad,
        bias_grad=inverse.to(layer.bias_grad.dtype) * layer.bias_grad if own_bias else layer.bias_grad,
    )


def _fold_before(layer: LinearLayer, affine: Affine) -> LinearLayer:
    """Affine map and layer as one: with y' = s y + t, W' = W s, β' = β + W t, ∂L/∂W' = (∂L/∂W − ∂L/∂β tᵀ) / s."""
    s, t = affine.scale, affine.shift
    inverse = torch.where(s == 0, 0.0, 1 / s)
    centred = layer.weight_grad - torch.outer(layer.bias_grad, t.to(layer.bias_grad.dtype))
    return replace(
        layer,
        weight=layer.weight * s,
        bias=layer.bias + layer.weight.to(t.dtype) @ t,
        weight_grad=(centred * inverse).to(layer.weight_grad.dtype),
    )


def _following_notes(
    reading: Reading, call: LinearCall, following: Following, *, attacked: bool
) -> list[str]:
    notes = []
    stopped = following.stopped
    if (
        attacked
        and stopped is not None
        and following.activation is None
        and _normalises_batch(reading, stopped)
    ):
        name = label(stopped, reading.traced.root)
        bias_grad = reading.gradient(call.bias)
        if bias_grad is not None:
            raise InputError(
                f"{name} after layer {call.name!r} must be in eval mode, as it was at the client: in train mode the bias "
                "gradient is zero, and this one is not; call model.eval()"
            )
    if attacked and reading.uses[call.weight] > 1:
        notes.append(
            f"layer {call.name!r} is used {reading.uses[call.weight]} times: rows of all uses come together"
        )
    if attacked and following.masked:
        notes.append(
            f"{following.masked} in train mode after layer {call.name!r}: its mask adds zeros that λ counts against"
        )
    return notes


def _normalises_batch(reading: Reading, node: fx.Node) -> bool:
    if node.op == "call_module":
        module = reading.traced.root.get_submodule(str(node.target))
        return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training
    return label(node, reading.traced.root) == "batch_norm"


def _source_notes(reading: Reading, call: LinearCall) -> list[str]:
    placeholder = next(node for node in reading.traced.graph.nodes if node.op == "placeholder")
    source: fx.Node | None = call.source
    while source is not None and source is not placeholder:
        inputs = source.all_input_nodes
        only_reshapes = label(source, reading.traced.root) in (
            "Flatten",
            "flatten",
            "view",
            "reshape",
            "Identity",
        )
        source = inputs[0] if only_reshapes and inputs else None
    return [] if source is placeholder else [f"rows are inputs of layer {call.name!r}, not of the network"]


def _names(names: list[str] | Mapping[str, object]) -> str:
    return ", ".join(repr(name) for name in names)
