"""A device that every machine has: tensors kept on the CPU that torch takes to be elsewhere, as strict as CUDA.

To torch such a tensor is on its `meta` device, the one that needs no hardware and that autograd knows; to Python it is
on `DEVICE`. All that runs on it passes through one function, which refuses what CUDA refuses (tensors of two devices
in one operation, a CPU generator for numbers drawn on the device) and counts what makes the host wait.

Which operations wait follows the notes of torch.linalg, and torch's sources for those that read their own error codes
(eigh, svd, lstsq, cholesky_inverse; inv, solve and cholesky call `_linalg_check_errors` in sight).
"""

import sys
from collections import Counter
from numbers import Number
from typing import Any, Self

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("privateuseone:0")
META, CPU = torch.device("meta"), torch.device("cpu")
WAITS = {"_local_scalar_dense", "equal", "allclose", "bincount", "linalg_lstsq", "cholesky_inverse"}
WAITS |= {"nonzero", "masked_select", "repeat_interleave", "_unique2", "unique_dim", "unique_consecutive"}
WAITS |= {"_linalg_check_errors", "_linalg_eigh", "_linalg_svd"}
WAITS |= {"linalg_eig", "linalg_eigvals", "_linalg_eigvals"}
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
COPIES = {"_to_copy", "copy_"}
FILLS = {"fill", "fill_", "masked_fill", "masked_fill_"}  # take a number of the host, as arithmetic does
BUILDERS = {torch.tensor, torch.as_tensor, torch.asarray}


class DeviceTensor(Tensor):
    """A tensor on the fake device, with its numbers in `held`."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, held: Tensor) -> "DeviceTensor":
        tensor = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=META,
        )
        tensor.held = held
        return tensor

    @property
    def device(self) -> torch.device:
        return DEVICE

    def __repr__(self) -> str:
        return f"{self.held} on {DEVICE}"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} on a tensor of the fake device, outside of `with FakeDevice()`")


class FakeDevice(TorchDispatchMode):
    """While it is entered, `DEVICE` is a device like any other.

    Attributes:
        waits: how often the host waited for the device, by operation and place in `spear_core`.
        uploads: how often numbers went from the host to the device, in the same way; there the host waits as well, but
            for no result.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()
        self._names = _DeviceNames()

    def __enter__(self) -> Self:
        self._names.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._names.__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        ours = [tensor for tensor in tensors if isinstance(tensor, DeviceTensor)]
        target = kwargs.get("device")
        on_device = bool(ours) if target is None else target == META
        if not ours and not on_device:
            return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        if on_device and kwargs.get("generator") is not None:
            raise RuntimeError(f"{name}: expected a generator on {DEVICE}, got one on the CPU")
        _refuse_mixtures(func, name, args, tensors, ours)
        self._count(name, args, tensors, ours, on_device)
        if target is not None:
            kwargs["device"] = CPU
        held_args, held_kwargs = tree_map_only(DeviceTensor, lambda t: t.held, (args, kwargs))
        result = func(*held_args, **held_kwargs)
        # what an operation writes into is returned as it came in
        given = {
            id(tensor.held if isinstance(tensor, DeviceTensor) else tensor): tensor for tensor in tensors
        }
        return tree_map_only(
            Tensor, lambda t: given[id(t)] if id(t) in given else DeviceTensor(t) if on_device else t, result
        )

    def _count(
        self, name: str, args: tuple, tensors: list[Tensor], ours: list[Tensor], on_device: bool
    ) -> None:
        from_host = len(tensors) > len(ours)
        if name in COPIES:
            to_device = isinstance(args[0], DeviceTensor) if name == "copy_" else on_device
            if not to_device:
                self.waits[_place(name)] += 1
            elif from_host:
                self.uploads[_place(name)] += 1
        elif name in INDEXED:
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                self.waits[_place(name)] += 1
            if any(not isinstance(index, DeviceTensor) for index in indices):
                self.uploads[_place(name)] += 1
        elif name in WAITS:
            self.waits[_place(name)] += 1


class _DeviceNames(TorchFunctionMode):
    """Gives torch `META` where Python says `DEVICE`, and numbers of the host a way there."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in BUILDERS and kwargs.get("device") == DEVICE:
            return func(*args, **{**kwargs, "device": CPU}).to(META)
        if func is Tensor.new_tensor and isinstance(args[0], DeviceTensor):
            return torch.tensor(*args[1:], dtype=kwargs.get("dtype", args[0].dtype)).to(META)
        if func is Tensor.tolist and isinstance(args[0], DeviceTensor):
            return args[0].cpu().tolist()
        if func is Tensor.__setitem__ and _is_mask(args[1]) and isinstance(args[2], Number):
            # a number behind a mask is filled in without a look at where
            tensor, mask, number = args
            tensor.masked_fill_(mask.reshape(mask.shape + (1,) * (tensor.ndim - mask.ndim)), number)
            return None
        if func in (Tensor.__getitem__, Tensor.__setitem__) and isinstance(args[0], DeviceTensor):
            args = (args[0], _uploaded(args[1]), *args[2:])
        args = tuple(META if _is_ours(value) else value for value in args)
        return func(*args, **{key: META if _is_ours(value) else value for key, value in kwargs.items()})


def _uploaded(index: Any) -> Any:
    """An index with lists as tensors on the device: a tensor of no device would turn them into empty ones."""
    if isinstance(index, tuple):
        return tuple(map(_uploaded, index))
    return torch.tensor(index, dtype=torch.int64).to(META) if isinstance(index, list) else index


def _is_ours(value: object) -> bool:
    return isinstance(value, torch.device | str) and str(value) == str(DEVICE)


def _is_mask(index: object) -> bool:
    return isinstance(index, Tensor) and index.dtype == torch.bool


def _refuse_mixtures(func: Any, name: str, args: tuple, tensors: list[Tensor], ours: list[Tensor]) -> None:
    """Raise as CUDA does: only a number of the host may take part in arithmetic on the device, or an index."""
    strangers = [tensor for tensor in tensors if not isinstance(tensor, DeviceTensor)]
    if not ours or not strangers or name in COPIES:
        return
    if torch.Tag.pointwise in func.tags or name in FILLS:
        strangers = [tensor for tensor in strangers if tensor.ndim]
    elif name in INDEXED and isinstance(args[0], DeviceTensor):
        strangers = [tensor for tensor in args[2:3] if isinstance(tensor, Tensor) and tensor.ndim]
        strangers = [tensor for tensor in strangers if not isinstance(tensor, DeviceTensor)]
    if strangers:
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, found {DEVICE} and cpu")


def _place(name: str) -> str:
    """The operation, and the line of `spear_core` that asks for it."""
    frame = sys._getframe(1)
    while frame is not None:
        _, package, file = frame.f_code.co_filename.replace("\\", "/").rpartition("/spear_core/")
        if package:
            return f"{file}:{frame.f_lineno} {name}"
        frame = frame.f_back
    return name
