"""`diagnose` and `invert` for files: own model and gradients in, recovered inputs and a report out.

A model file is either a whole module made of torch.nn's own classes (`torch.save(model, "model.pt")`), or a state dict
together with the name of the function or class on *your* machine that builds the network (`--network
package.module:Class`). How files are read is in `loading`.
"""

import argparse
import os
import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from spear_core.attack.diagnose import diagnose
from spear_core.attack.inversion import Inversion
from spear_core.attack.invert import invert
from spear_core.attack.loading import load_gradients, load_model
from spear_core.attack.options import METHODS
from spear_core.errors import InputError
from spear_core.model.layers import read_problem

REPORT = "report.txt"
WRITTEN = re.compile(  # by `save`
    r"((network_)?inputs|network_inputs_certified|certified_rows|labels)\.npy|report\.txt|sample_\d+\.png"
)


def add_commands(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add `diagnose` and `invert` to a command line; `args.run(args)` returns the text to print."""
    looked_at = subparsers.add_parser("diagnose", help="what each linear layer of a model would give away")
    inverted = subparsers.add_parser("invert", help="recover the batch behind the gradients of a model")
    own = "a module of torch.nn's classes (.pt), or a state dict with --network (.pt, .safetensors)"
    for parser in (looked_at, inverted):
        add = parser.add_argument
        add("model", type=Path, help=own)
        add("gradients", type=Path, help="a mapping or list of tensors (.pt, .safetensors), or arrays (.npz)")
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
    add(
        "--input-shape", type=_shape, metavar="C,H,W", help="of one input of the network, to be found as well"
    )
    looked_at.set_defaults(run=main_diagnose)
    inverted.set_defaults(run=main_invert)


def main_diagnose(args: argparse.Namespace) -> str:
    """The `diagnose` command: a table, as text."""
    model = load_model(args.model, args.network, train=args.train)
    return repr(diagnose(model, load_gradients(args.gradients, model)))


def main_invert(args: argparse.Namespace) -> str:
    """The `invert` command: writes inputs.npy, labels.npy, report.txt and pictures; returns the report."""
    # what would keep the result from being written comes before the search
    check_folder(args.out, "--out")
    model = load_model(args.model, args.network, train=args.train)
    gradients = load_gradients(args.gradients, model)
    if args.shape is not None:
        _check_shape(args.shape, read_problem(model, gradients, args.layer).attacked.weight.shape[1])
    inversion = invert(
        model,
        gradients,
        args.layer,
        method=args.method,
        batch_size=args.batch_size,
        time_limit=args.time_limit,
        generator=torch.Generator().manual_seed(args.seed),
        progress=True,
        input_shape=args.input_shape,
    )
    written = save(inversion, args.out, args.shape)
    return "\n".join([repr(inversion), *(f"  {'written':18} {path}" for path in written)])


def check_folder(folder: Path, name: str) -> None:
    """Refuse what is no folder, or one that cannot be written to or made; `name` is that of the option."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if os.path.lexists(place))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        kind = "a folder that cannot be written to" if nearest.is_dir() else "a file"
        raise InputError(
            f"{name} must be a folder, or one that can be made, got {folder}: {nearest} is {kind}"
        )


def save(inversion: Inversion, folder: Path, shape: tuple[int, ...] | None = None) -> list[Path]:
    """Write a result into a folder, made if need be: inputs.npy (b, n), certified_rows.npy, labels.npy, report.txt.

    With a shape, (C, H, W), (H, W, C) or (H, W) in the order in which the model flattens its inputs, pictures as well.
    What an earlier result left there, known by its report, goes. Returns what was written.
    """
    inputs = inversion.inputs.cpu().numpy()
    if shape is not None:
        _check_shape(shape, inputs.shape[1])
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / REPORT).is_file():
        for path in folder.iterdir():
            if WRITTEN.fullmatch(path.name):
                path.unlink()
    arrays = {"inputs.npy": inputs, "certified_rows.npy": inversion.certified_rows.cpu().numpy()}
    if inversion.labels is not None:
        arrays["labels.npy"] = inversion.labels.cpu().numpy()
    if inversion.network_inputs is not None and inversion.network_inputs_certified is not None:
        arrays["network_inputs.npy"] = inversion.network_inputs.cpu().numpy()
        arrays["network_inputs_certified.npy"] = inversion.network_inputs_certified.cpu().numpy()
    for name, array in arrays.items():
        np.save(folder / name, array)
    (folder / REPORT).write_text(repr(inversion) + "\n", encoding="utf-8")
    pictures = [] if shape is None else [_picture(row.reshape(shape)) for row in inputs]
    names = [f"sample_{k:0{len(str(len(pictures)))}}.png" for k in range(len(pictures))]
    for name, picture in zip(names, pictures):
        picture.save(folder / name)
    return [folder / name for name in (*arrays, REPORT, *names)]


def _shape(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if len(parts) not in (2, 3) or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise argparse.ArgumentTypeError(f"must be two or three whole numbers, as 3,32,32, got {text!r}")
    return tuple(map(int, parts))


def _check_shape(shape: tuple[int, ...], numbers: int) -> None:
    if np.prod(shape) != numbers:
        raise InputError(f"the shape must have {numbers} numbers in all, got {shape}")


def _picture(pixels: np.ndarray) -> Image.Image:
    """Darkest value black, brightest white; what standardised inputs meant is not known here."""
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and pixels.shape[2] not in (1, 3):
        pixels = pixels.transpose(1, 2, 0)
    low, high = pixels.min(), pixels.max()
    grey = (255 * (pixels - low) / (high - low if high > low else 1)).round().astype(np.uint8)
    return Image.fromarray(grey[..., 0] if grey.ndim == 3 and grey.shape[2] == 1 else grey)
