"""Gradients as people have them, put under the names of the model's parameters."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from spear_core.errors import InputError, InputTypeError, MissingGradient
from spear_core.model.checks import as_real, check_finite, check_shape, largest_entry
from spear_core.model.symbolic import INNER

WRAPPERS = ("module", "_orig_mod", "_module")  # DataParallel, torch.compile, Opacus

Gradients = Mapping[str, object] | Iterable[object]


def normalise(
    model: nn.Module, gradients: Gradients, spoilt: dict[str, InputError] | None = None
) -> dict[str, Tensor | None]:
    """Gradients by parameter name, whatever shape they came in.

    They may be a mapping from parameter names, nested or not, with or without the prefixes of wrappers (on either
    side), or anything iterable, in the order of `model.parameters()`, of those that require a gradient, or of
    `model.state_dict()`. Tensors may be dense or sparse, require grad, or be arrays. What is wrong with a single one
    goes into `spoilt`, if that is given: perhaps nobody needs it.

    Returns:
        For every parameter of the model, without wrapper prefixes, its gradient or None. Tensors share memory
        with what was given, unless they were sparse or of half precision.

    Raises:
        InputError: unknown names, a wrong number of tensors, a wrong shape, NaN or infinity.
        InputTypeError: neither mapping nor sequence; something in it that is no real tensor.
        MissingGradient: nothing but None and zeros.

    >>> model = nn.Linear(3, 2)
    >>> list(normalise(model, {"module._orig_mod.weight": torch.ones(2, 3), "bias": None}))
    ['weight', 'bias']
    """
    if not isinstance(model, nn.Module):
        raise InputTypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    parameters = {strip(name): parameter for name, parameter in model.named_parameters()}
    if not parameters:
        raise InputError(f"model must have parameters, got {type(model).__name__} without any")
    if lazy := [name for name, parameter in parameters.items() if nn.parameter.is_lazy(parameter)]:
        raise InputError(f"parameters must have a shape, got {lazy[0]!r} without: run the lazy model once")
    given = _by_name(model, parameters, gradients)
    result: dict[str, Tensor | None] = dict.fromkeys(parameters)
    faults: dict[str, InputError] = {} if spoilt is None else spoilt
    for name, parameter in parameters.items():
        value, what = given.get(name), f"gradient of {name!r}"
        if isinstance(shape := getattr(value, "shape", None), tuple):  # what does not fit may be of any size
            check_shape(shape, what, parameter.shape)
        try:
            if value is not None:
                tensor = as_real(value, what)
                check_finite(tensor, what)
                result[name] = tensor
        except InputError as error:
            faults[name] = error
    present = [grad for grad in result.values() if grad is not None and grad.numel()]
    if faults and (spoilt is None or not present):
        raise next(iter(faults.values()))
    if not present:
        raise MissingGradient("gradients must hold at least one tensor, got none")
    if all(float(largest_entry(grad)) == 0 for grad in sorted(present, key=Tensor.numel)):
        raise MissingGradient("gradients must not be all zero: no samples (an empty batch?)")
    return result


def strip(name: str) -> str:
    """A parameter's name without what wrappers put in front of it and, of their private names, in between.

    >>> strip("_orig_mod.module.features._checkpoint_wrapped_module.0.weight")
    'features.0.weight'
    """
    parts = [part for part in name.split(".") if part not in INNER] or [name]
    while len(parts) > 1 and parts[0] in WRAPPERS:
        parts = parts[1:]
    return ".".join(parts)


def _by_name(model: nn.Module, parameters: Mapping[str, Tensor], gradients: Gradients) -> dict[str, object]:
    if isinstance(gradients, Mapping):
        return _from_mapping(model, parameters, gradients)
    if isinstance(gradients, Tensor | str | bytes | nn.Module) or not isinstance(gradients, Iterable):
        raise InputTypeError(
            "gradients must be a mapping from parameter names to tensors, or a sequence in the order of "
            f"model.parameters(), got {type(gradients).__name__}"
        )
    layouts = _layouts(model, parameters)
    # an endless generator is cut where no layout could take more
    values: list[Any] = list(islice(gradients, max(map(len, layouts.values())) + 1))
    if values and all(map(_is_named, values)):
        return _from_mapping(model, parameters, dict(values))
    return _from_sequence(layouts, values)


def _is_named(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)


def _from_mapping(
    model: nn.Module, parameters: Mapping[str, Tensor], gradients: Mapping[str, object]
) -> dict[str, object]:
    aliases = _aliases(model)
    buffers = {strip(name) for name, _ in model.named_buffers()}
    given: dict[str, object] = {}
    flat = dict(_flat(gradients))
    drop, add = _prefix([strip(key) for key in flat], aliases, buffers)
    for key, value in flat.items():
        name = add + strip(key).removeprefix(drop)
        if name in aliases:
            if given.get(aliases[name]) is None:  # a tied parameter may be listed under each of its names
                given[aliases[name]] = value
        elif name not in buffers:
            known = ", ".join(repr(name) for name in islice(parameters, 4))
            hint = ": transpose a kernel (n, m) to a weight (m, n) of that name" if "kernel" in key else ""
            raise InputError(
                f"names of gradients must be those of the model's parameters ({known}, …), got {key!r}{hint}"
            )
    return given


def _flat(gradients: Mapping[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    """The entries of nested mappings, under their keys joined by dots."""
    for key, value in gradients.items():
        if not isinstance(key, str):
            raise InputTypeError(f"names of gradients must be strings, got {key!r}")
        yield from _flat(value, f"{before}{key}.") if isinstance(value, Mapping) else [(before + key, value)]


def _prefix(keys: list[str], parameters: Iterable[str], buffers: set[str]) -> tuple[str, str]:
    """What a trainer or an adapter put in front of all keys, "model." for example, or in front of all parameters.

    Nothing unless exactly one such prefix makes every key a name of the model.
    """
    names = set(parameters) | buffers
    if not keys or names.issuperset(keys):
        return "", ""
    fits = {(keys[0].removesuffix(name), "") for name in names if keys[0].endswith("." + name)}
    fits |= {("", name.removesuffix(keys[0])) for name in names if name.endswith("." + keys[0])}
    fits = {
        (drop, add)
        for drop, add in fits
        if all(key.startswith(drop) and add + key.removeprefix(drop) in names for key in keys)
        and all(name.startswith(add) for name in parameters)
    }
    return fits.pop() if len(fits) == 1 else ("", "")


def _aliases(model: nn.Module) -> dict[str, str]:
    """Every name of a parameter → the one that `named_parameters` lists it under."""
    first = {id(parameter): strip(name) for name, parameter in model.named_parameters()}
    everything = model.named_parameters(remove_duplicate=False)
    return {strip(name): first[id(parameter)] for name, parameter in everything}


def _layouts(model: nn.Module, parameters: Mapping[str, Tensor]) -> dict[str, list[tuple[str, torch.Size]]]:
    """The orders in which frameworks list tensors: what each is called, and its names and shapes."""
    aliases = _aliases(model)
    values = {strip(name): value for name, value in model.state_dict().items()}
    state = [(aliases.get(name, name), v.shape) for name, v in values.items() if isinstance(v, Tensor)]
    return {
        "model.parameters()": [(name, p.shape) for name, p in parameters.items()],
        "the parameters that require a gradient": [
            (name, p.shape) for name, p in parameters.items() if p.requires_grad
        ],
        "model.state_dict()": state,
        "model.state_dict() without its counters": [entry for entry in state if len(entry[1])],
    }


def _from_sequence(
    layouts: Mapping[str, list[tuple[str, torch.Size]]], values: list[object]
) -> dict[str, object]:
    fitting = [layout for layout in layouts.values() if len(layout) == len(values)]
    if not fitting:
        lengths = {len(layout): what for what, layout in reversed(list(layouts.items()))}
        wanted = " or ".join(f"{length} ({what})" for length, what in sorted(lengths.items()) if length)
        got = len(values) if len(values) <= max(lengths) else f"{len(values)} or more"
        raise InputError(
            f"a sequence of gradients must have as many tensors as the model: {wanted}, got {got}"
        )
    agreeing = (
        layout
        for layout in fitting
        if all(_shape(value) in (None, shape) for value, (_, shape) in zip(values, layout))
    )
    # where no order fits, the first one gives the message, when its tensors are looked at one by one
    return {name: value for value, (name, _) in zip(values, next(agreeing, fitting[0]))}


def _shape(value: object) -> torch.Size | None:
    return None if value is None else torch.Size(getattr(value, "shape", (-1,)))
