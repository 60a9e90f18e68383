"""`diagnose` and `invert` for files: own model and gradients in, recovered inputs and a report out.

Files are loaded weights-only: a pickle can run any code, these cannot, and what does not load is an `InputError`. A
model file is either a whole module made of `torch.nn`'s own classes (`torch.save(model, "model.pt")`), or a state dict
together with the name of the function or class on *your* machine that builds the network (`--network
package.module:Class`).
"""

import argparse
import importlib
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from spear_core.attack.diagnose import diagnose
from spear_core.attack.inversion import Inversion
from spear_core.attack.invert import invert
from spear_core.attack.options import METHODS
from spear_core.errors import InputError
from spear_core.model.parameters import Gradients, strip


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `diagnose` and `invert` to a command line; `args.run(args)` returns the text to print."""
    looked_at = subparsers.add_parser("diagnose", help="what each linear layer of a model would give away")
    inverted = subparsers.add_parser("invert", help="recover the batch behind the gradients of a model")
    own = "a module of torch.nn's classes, or a state dict (of an own class: with --network)"
    for parser in (looked_at, inverted):
        add = parser.add_argument
        add("model", type=Path, help=own)
        add("gradients", type=Path, help="a mapping or list of tensors (.pt), or arrays (.npz)")
        add("--network", help="package.module:callable that builds the network of a state dict")
        add("--train", action="store_true", help="the client had the model in train mode")
    add = inverted.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    add("--layer", help="dotted name of the nn.Linear to attack; default: the first")
    add("--method", default="auto", choices=METHODS)
    add("--batch-size", type=int, help="default: the rank of the gradient")
    add("--time-limit", type=float, metavar="SECONDS")
    add("--seed", type=int, default=0)
    add("--shape", type=_shape, metavar="C,H,W", help="also write pictures: C,H,W or H,W,C or H,W")
    looked_at.set_defaults(run=main_diagnose)
    inverted.set_defaults(run=main_invert)


def main_diagnose(args: argparse.Namespace) -> str:
    """The `diagnose` command: a table, as text."""
    model = load_model(args.model, args.network, train=args.train)
    return repr(diagnose(model, load_gradients(args.gradients)))


def main_invert(args: argparse.Namespace) -> str:
    """The `invert` command: writes inputs.npy, labels.npy, report.txt and pictures; returns the report."""
    model = load_model(args.model, args.network, train=args.train)
    inversion = invert(
        model,
        load_gradients(args.gradients),
        args.layer,
        method=args.method,
        batch_size=args.batch_size,
        time_limit=args.time_limit,
        generator=torch.Generator().manual_seed(args.seed),
        progress=True,
    )
    written = save(inversion, args.out, args.shape)
    return "\n".join([repr(inversion), *(f"  {'written':18} {path}" for path in written)])


def load_model(path: Path, network: str | None = None, *, train: bool = False) -> nn.Module:
    """A model from what `torch.save` wrote, in eval mode unless the client had it in train mode.

    A module of torch.nn's classes, or a state dict with `network`, "package.module:callable", called without arguments.
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


def load_gradients(path: Path) -> Gradients:
    """Gradients from a file: what `torch.save` wrote, or a NumPy archive of named arrays."""
    if path.suffix != ".npz":
        return _load(path, "a mapping or sequence of tensors")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path.name} must be an archive of arrays, got one that does not load: {error}"
        ) from error


def save(inversion: Inversion, folder: Path, shape: tuple[int, ...] | None = None) -> list[Path]:
    """Write a result into a folder, made if need be: inputs.npy (b, n), certified_rows.npy, labels.npy, report.txt.

    With a shape, (C, H, W), (H, W, C) or (H, W) in the order in which the model flattens its inputs, pictures as well.
    Returns what was written.
    """
    inputs = inversion.inputs.cpu().numpy()
    if shape is not None and inputs.shape[1] != int(np.prod(shape)):
        raise InputError(f"the shape must have {inputs.shape[1]} numbers in all, got {shape}")
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"inputs.npy": inputs, "certified_rows.npy": inversion.certified_rows.cpu().numpy()}
    if inversion.labels is not None:
        arrays["labels.npy"] = inversion.labels.cpu().numpy()
    for name, array in arrays.items():
        np.save(folder / name, array)
    (folder / "report.txt").write_text(repr(inversion) + "\n", encoding="utf-8")
    pictures = [] if shape is None else [_picture(row.reshape(shape)) for row in inputs]
    names = [f"sample_{k:0{len(str(len(pictures)))}}.png" for k in range(len(pictures))]
    for name, picture in zip(names, pictures):
        picture.save(folder / name)
    return [folder / name for name in (*arrays, "report.txt", *names)]


def _load(path: Path, wanted: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path} must be a file that can be read: {error.strerror or error}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, AttributeError) as error:
        text = str(error) or "an empty file"
        reason = text.partition("GLOBAL ")[2].split(" was ")[0] or text.splitlines()[0]
        raise InputError(
            f"{path.name} must be {wanted}, loadable without running code (weights only), got: {reason}"
        ) from error


def _torch_classes() -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """The module classes of torch.nn: they hold tensors and numbers, and none runs what a file says."""
    classes = [kind for kind in vars(nn).values() if isinstance(kind, type) and issubclass(kind, nn.Module)]
    return [kind for kind in classes if kind.__module__.startswith("torch.nn.modules.")]


def _build(network: str) -> nn.Module:
    module_name, _, name = network.partition(":")
    try:
        built = getattr(importlib.import_module(module_name), name)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(
            f"network must be package.module:callable without arguments, got {network!r}: {error}"
        ) from error
    if not isinstance(built, nn.Module):
        raise InputError(f"network must build a torch.nn.Module, got {type(built).__name__} from {network!r}")
    return built


def _shape(text: str) -> tuple[int, ...]:
    shape = tuple(int(part) for part in text.split(","))
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise ValueError(text)
    return shape


def _picture(pixels: np.ndarray) -> Image.Image:
    """Darkest value black, brightest white; what standardised inputs meant is not known here."""
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[2] not in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    low, high = pixels.min(), pixels.max()
    grey = (255 * (pixels - low) / (high - low if high > low else 1)).round().astype(np.uint8)
    return Image.fromarray(grey[..., 0] if grey.ndim == 3 and grey.shape[2] == 1 else grey)
