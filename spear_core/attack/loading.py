"""Models and gradients from files, without running anything that a file says.

A pickle can run any code when it is loaded, so files are loaded weights-only, and what does not load is an `InputError`
that says how to convert it safely. Nor may a small file unpack to a large one: sizes are looked at first.
"""

import importlib
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from spear_core.errors import InputError
from spear_core.model.parameters import Gradients, strip

SMALL = 2**28  # bytes that any file may unpack to
ROOM = 16  # times the model's own size, in float64, that its gradients may unpack to
SAVE = "torch.save({name: tensor, …}, 'gradients.pt')"
# how files begin that are neither torch's nor NumPy archives, and what to do with them
OTHERS = {
    b"\x93NUMPY": "a single array (.npy): write all of them with np.savez('gradients.npz', *arrays)",
    b"\x89HDF": f"an HDF5 file: read its arrays with h5py and write {SAVE}",
    b"\x80": "a pickle, which can run any code when it is loaded: where you trust its origin, load it there and write "
    + SAVE,
    b"{": f"text, JSON perhaps: make tensors of its numbers and write {SAVE}",
    b"[": f"text, JSON perhaps: make tensors of its numbers and write {SAVE}",
}


def load_model(path: Path, network: str | None = None, *, train: bool = False) -> nn.Module:
    """A model from a file, in eval mode unless the client had it in train mode.

    A module of torch.nn's classes that `torch.save` wrote, or a state dict (also .safetensors) with `network`,
    "package.module:callable", called without arguments.
    """
    with torch.serialization.safe_globals(_torch_classes()):
        loaded = _load(path, "a module made of torch.nn's classes, or a state dict with --network")
    if isinstance(loaded, nn.Module) and network is None:
        return loaded.train(train)
    if not isinstance(loaded, Mapping) or network is None:
        raise InputError(
            f"{path.name} must be a module, or a state dict with --network, got {type(loaded).__name__} "
            f"with{'out' if network is None else ''} --network"
        )
    model = _build(network)
    try:
        model.load_state_dict({strip(str(name)): value for name, value in loaded.items()})
    except (RuntimeError, TypeError, AttributeError) as error:
        raise InputError(f"{path.name} must be a state dict of {network}: {error}") from error
    return model.train(train)


def load_gradients(path: Path, model: nn.Module | None = None) -> Gradients:
    """Gradients of a model from what `torch.save`, `np.savez` or safetensors wrote.

    Arrays without names, `np.savez(path, *arrays)`, are a list.
    """
    values = [] if model is None else model.state_dict().values()
    most = ROOM * torch.float64.itemsize * sum(v.numel() for v in values if isinstance(v, torch.Tensor))
    if path.suffix != ".npz":
        return _load(path, "a mapping or sequence of tensors", most)
    wanted = "an archive of arrays"
    _check_size(path, wanted, most)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = dict(archive)
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("entries that are no arrays; if torch.save wrote it, name it .pt")
    except FileNotFoundError as error:
        raise InputError(f"{path} must be a file that can be read: {error.strerror}") from error
    except (OSError, EOFError, ValueError, TypeError, MemoryError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path.name} must be {wanted}, got one that does not load: {_reason(path, str(error))}"
        ) from error
    unnamed = [f"arr_{place}" for place in range(len(arrays))]
    return [arrays[name] for name in unnamed] if arrays.keys() == set(unnamed) else arrays


def _load(path: Path, wanted: str, most: int = 0) -> Any:
    _check_size(path, wanted, most)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    try:
        with warnings.catch_warnings(action="ignore"):  # of formats that are refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path} must be a file that can be read: {error.strerror or error}") from error
    except Exception as error:  # whatever a loader meets in bytes that nobody vouches for
        raise InputError(
            f"{path.name} must be {wanted}, loadable without running code (weights only), "
            f"got: {_reason(path, str(error))}"
        ) from error


def _reason(path: Path, message: str) -> str:
    """What is in a file that does not load, and how to convert it: what the libraries advise would run its code."""
    with path.open("rb") as file:
        begins = file.read(16)
    if needs := re.search(r"GLOBAL (\S+) was", message):
        if not needs[1].startswith("numpy"):
            return needs[1]
        return f"NumPy arrays: save torch.as_tensor(array) of each, or use np.savez ({needs[1]})"
    if "TorchScript" in message:
        return "a TorchScript archive, which is code: save the module's state_dict() instead"
    if hints := [hint for beginning, hint in OTHERS.items() if begins.startswith(beginning)]:
        return hints[0]
    if "pickle" in message:
        return "objects, which can run any code when they are loaded: write arrays of numbers"
    first = message.splitlines()[0] if message else "an empty file"
    return "a file of another kind" if "weights_only" in first else first


def _safetensors(path: Path) -> Mapping[str, torch.Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise InputError(
            f"{path.name} must be readable here, got no library for it: pip install safetensors"
        ) from error
    try:
        tensors: Mapping[str, torch.Tensor] = load_file(path)
    except Exception as error:  # the library has errors of its own kind
        raise InputError(
            f"{path.name} must be a safetensors file, got one that does not load: {error}"
        ) from error
    return tensors


def _check_size(path: Path, wanted: str, most: int) -> None:
    """Refuse an archive that claims to unpack to far more than it holds, before anything is allocated."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(entry.file_size for entry in archive.infolist())
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path.name} must be {wanted}, got an archive that does not open: {error}"
        ) from error
    if claimed > max(SMALL, most, path.stat().st_size):
        raise InputError(
            f"{path.name} must be {wanted} of about the model's size, got one of "
            f"{path.stat().st_size / 2**20:,.0f} MiB that claims to unpack to {claimed / 2**20:,.0f} MiB"
        )


def _torch_classes() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """The module classes of torch.nn: they hold tensors, numbers and sets, and none runs what a file says."""
    classes = [kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Module)]
    return [set, *(kind for kind in classes if kind.__module__.startswith("torch.nn.modules."))]


def _build(network: str) -> nn.Module:
    """The network of the caller's own code, whatever that raises."""
    module_name, _, name = network.partition(":")
    try:
        built = getattr(importlib.import_module(module_name), name)()
    except (Exception, SystemExit) as error:
        raise InputError(
            f"network must be package.module:callable without arguments, got {network!r}: "
            f"{type(error).__name__}: {error}"
        ) from error
    if not isinstance(built, nn.Module):
        raise InputError(f"network must build a torch.nn.Module, got {type(built).__name__} from {network!r}")
    return built
