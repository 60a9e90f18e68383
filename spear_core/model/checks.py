"""Checks of tensors at the public door: what must be, what was given. Inside the package the types are trusted."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from spear_core.errors import InputError, InputTypeError, MissingGradient
from spear_core.problem import LinearLayer
from spear_core.tolerances import precision

BIAS_ROUNDING = 32.0  # rounding errors of the weight gradient's largest entry; below, a bias gradient is none
SPANNED = 1e-4  # relative; singular values below may be those of rounding
MULTIPLES = 32  # of the smallest number; a median below has lost its digits
SMALLEST = tuple(2.0**power for power in (-149, -133, -24))  # of float32, bfloat16 and float16
LARGEST = 1e140  # its square, a million times, is below the largest float64


def check_layer(weight_grad: object, bias_grad: object, weight: object, bias: object) -> LinearLayer:
    """One linear layer as the attack needs it, followed by ReLU, from four tensors or arrays.

    ∂L/∂W of shape (m, n), ∂L/∂β (m,), W (m, n) and β (m,); nothing is copied unless its dtype is below float32.

    Raises:
        InputError: wrong shapes, mixed devices, NaN or infinity, a gradient that is zero.
        InputTypeError: no tensor, or one of integers.
    """
    given = {"weight_grad": weight_grad, "bias_grad": bias_grad, "weight": weight, "bias": bias}
    tensors = {name: as_real(value, name) for name, value in given.items()}
    shape = tensors["weight"].shape
    if len(shape) != 2 or 0 in shape:
        raise InputError(f"weight must be a matrix (m, n), got shape {tuple(shape)}")
    for name, wanted in (("weight_grad", shape), ("bias", shape[:1]), ("bias_grad", shape[:1])):
        check_shape(tensors[name].shape, name, wanted, like=", like the weight")
    check_one_device(tensors)
    for name, tensor in tensors.items():
        check_finite(tensor, name)
    layer = LinearLayer(tensors["weight_grad"], tensors["bias_grad"], tensors["weight"], tensors["bias"])
    check_gradient(layer)
    return layer


def as_real(value: object, name: str) -> Tensor:
    """A dense real tensor, detached, float32 or float64, that shares memory with `value` where that is possible.

    The value may be a tensor (dense, sparse, or one that requires grad) or an array; half precision is raised to
    float32. Whatever else, or holds no real numbers or no data at all, is an `InputTypeError` that calls it `name`.
    """
    tensor = _as_tensor(value, name)
    if not tensor.is_floating_point():
        raise InputTypeError(f"{name} must hold floating-point numbers, got {tensor.dtype}")
    if tensor.device.type == "meta":
        raise InputTypeError(f"{name} must hold data, got a tensor on the meta device")
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    wanted = tensor.dtype if tensor.dtype in (torch.float32, torch.float64) else torch.float32
    # autograd cannot work with what was made in inference mode
    return _without_repeats(tensor).to(wanted, copy=tensor.is_inference()).expand(tensor.shape)


def check_shape(shape: tuple[int, ...], name: str, wanted: tuple[int, ...], like: str = "") -> None:
    """Refuse a tensor of another shape."""
    if tuple(shape) != tuple(wanted):
        hint = ": transposed?" if len(wanted) == 2 and tuple(shape) == tuple(wanted[::-1]) else ""
        if tuple(shape[1:]) == tuple(wanted):
            hint = ": per-sample gradients? Pass their sum over the first axis"
        raise InputError(f"{name} must be of shape {tuple(wanted)}{like}, got {tuple(shape)}{hint}")


def check_one_device(tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors on several devices."""
    devices = {name: str(tensor.device) for name, tensor in tensors.items()}
    if len(set(devices.values())) > 1:
        listed = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise InputError(f"all tensors must be on one device, got {listed}")


def check_finite(tensor: Tensor, name: str) -> None:
    """Refuse NaN and infinity, in one pass and without a copy."""
    if not tensor.numel() or largest_entry(tensor).isfinite():
        return
    once = _without_repeats(tensor)
    repeats = tensor.numel() // once.numel()
    nans, infinite = int(once.isnan().sum()) * repeats, int(once.isinf().sum()) * repeats
    raise InputError(
        f"{name} must be finite, got {nans} NaN and {infinite} infinite of {tensor.numel()} entries"
    )


def check_magnitude(largest: float, name: str) -> None:
    """Refuse a gradient whose entries cannot be squared and added up, by its largest; one that is all zero passes."""
    if largest and not 1 / LARGEST < largest < LARGEST:
        raise InputError(
            f"entries of {name} must lie between {1 / LARGEST:.0e} and {LARGEST:.0e}, got {largest:.1e}: "
            "multiply all gradients by one factor, which changes nothing else"
        )


def check_gradient(layer: LinearLayer, normalised: bool | None = None) -> None:
    """Refuse a gradient that is all zero, or whose bias part is, to rounding.

    `normalised` says whether a BatchNorm follows the layer; None where that is not known.
    """
    of_layer = f" of layer {layer.name!r}" if layer.name else ""
    largest, bias = (float(largest_entry(grad)) for grad in (layer.weight_grad, layer.bias_grad))
    check_magnitude(largest, f"the weight gradient{of_layer}")
    if largest == 0:
        raise MissingGradient(f"the weight gradient{of_layer} must not be all zero: no samples reached it")
    # the error of a sum of b numbers that cancel, each about as large as an entry of G, unless inputs are huge
    if bias <= BIAS_ROUNDING * precision(layer.weight_grad.dtype) * largest and not _is_spanned(layer):
        reason = "the errors of all samples cancel (balanced labels on weights that are zero?)"
        subtracted = "BatchNorm in train mode right after the layer? It subtracts the mean of the batch"
        subtracted += (
            " (pass what the client's BatchNorm had after the step, buffers=; without, it is not attacked)"
        )
        if normalised is not False:
            reason = subtracted if normalised else f"{subtracted}; or {reason}"
        if is_underflow(layer.weight_grad):
            reason = "underflow: entries are at the smallest number there is; multiply the loss by a factor"
        raise InputError(
            f"the bias gradient{of_layer} must not be zero, got {bias:.1e} beside {largest:.1e}: "
            f"bias gradient is zero: {reason}, and with it goes the scale of every sample"
        )


def is_underflow(G: Tensor) -> bool:
    """Whether entries are small multiples of the smallest number of single or half precision, most of them."""
    size = G.abs()[G != 0]
    smallest = float(size.min())
    return smallest in SMALLEST and float(size.median()) <= MULTIPLES * smallest


def _is_spanned(layer: LinearLayer) -> bool:
    """Whether the bias gradient lies among the columns of the weight gradient, as rounding would not."""
    G, g = (
        grad.to(torch.float64) / largest_entry(layer.weight_grad)
        for grad in (layer.weight_grad, layer.bias_grad)
    )
    values, vectors = torch.linalg.eigh(G @ G.T)
    U = vectors[:, values > SPANNED**2 * values[-1]]
    return 2 * U.shape[1] < len(g) and bool((g - U @ (U.T @ g)).norm() < g.norm() / 2)


def largest_entry(tensor: Tensor) -> Tensor:
    """Largest |entry|, in one pass and without a copy."""
    low, high = _without_repeats(tensor).aminmax()
    return torch.maximum(-low, high)


def _without_repeats(tensor: Tensor) -> Tensor:
    """One of each entry that an expanded view repeats: it may claim far more than the memory holds."""
    for dim, step in enumerate(tensor.stride()):
        tensor = tensor.narrow(dim, 0, 1) if step == 0 and tensor.numel() else tensor
    return tensor


def _as_tensor(value: object, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    if hasattr(value, "__array__"):
        try:
            array = np.asarray(value)
            if not array.dtype.isnative or any(stride < 0 for stride in array.strides):
                array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
            if array.flags.writeable:
                return torch.from_numpy(array)
            # read-only arrays are welcome: nothing here writes; one may repeat its entries, too
            once = array[tuple(slice(0, 1) if step == 0 else slice(None) for step in array.strides)]
            return torch.from_numpy(once.copy()).expand(array.shape)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputTypeError(f"{name} must be a tensor or a numeric array, got {_kind(value)}") from error
    raise InputTypeError(f"{name} must be a tensor or an array, got {_kind(value)}")


def _kind(value: object) -> str:
    dtype = f" of {value.dtype}" if hasattr(value, "dtype") else ""
    return type(value).__name__ + dtype
