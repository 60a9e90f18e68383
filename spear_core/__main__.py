"""The whole story without a notebook: `python -m spear_core`.

Picks real photographs, computes the gradients that a client would send, recovers the batch from these alone,
writes one picture and says what came back.
"""

import argparse
import itertools
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from spear_core import client
from spear_core.attack import files
from spear_core.attack import invert as attack
from spear_core.attack.options import METHODS
from spear_core.client import data, networks
from spear_core.errors import InputError
from spear_core.study import metrics, picture


def main(arguments: Sequence[str] | None = None, *, prog: str = "python -m spear_core") -> int:
    """Run the command line; returns the exit status: 2 for bad input, 130 if stopped before there was a result.

    `prog` is what it was called as. A request to end (SIGTERM) is taken as Ctrl-C: a search that it stops hands back
    its best so far, flagged.
    """
    parser = _parser(prog)
    options = parser.parse_args(arguments)
    try:
        with _ending_as_interruption():
            print(options.run(options))
    except (ValueError, TypeError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted before there was a result", file=sys.stderr)
        return 130
    return 0


@contextmanager
def _ending_as_interruption() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: what was found is being written
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Recover a batch of pictures from the gradient that a client shares, and say which of them are "
        "certified.",
    )
    add = parser.add_argument
    add("-b", "--batch-size", type=int, default=24, help="number of pictures (default 24)")
    add("--width", type=int, default=400, help="m, units per hidden layer (default 400)")
    add("--depth", type=int, default=6, help="number of linear layers (default 6)")
    add("--size", type=int, default=32, help="side of a photograph in pixels (default 32)")
    add(
        "--data",
        default="photos",
        help="photos (default), digits or one of torchvision: " + ", ".join(data.TORCHVISION_SETS),
    )
    add("--method", choices=METHODS, default="auto", help="auto, or sampling for SPEAR itself")
    add("--seed", type=int, default=0, help="of photographs, weights and search (default 0)")
    add("--dtype", choices=("float32", "float64"), default="float32", help="precision of the client")
    add("--device", default="cpu", help="cpu, cuda or mps (default cpu)")
    add("--threads", type=int, default=1, help="1 (default) is fastest up to about 100 pictures")
    add("--time-limit", type=float, default=None, help="seconds; then the best so far")
    add(
        "-o",
        "--output",
        help="the picture (default recovered.png, or recovered-2.png and so on, whichever is free)",
    )
    parser.set_defaults(run=tell)
    files.add_commands(parser.add_subparsers(title="with your own files", metavar="COMMAND"))
    return parser


def tell(options: argparse.Namespace) -> str:
    """Tell the story once: what is sent, what comes back, how exactly, and where the picture is."""
    path = Path(options.output) if options.output else _free("recovered.png")
    _check(options, path)
    torch.set_num_threads(options.threads)
    # the client
    generator = torch.Generator().manual_seed(options.seed)
    dtype = getattr(torch, options.dtype)
    batch = data.load(options.data, options.batch_size, size=options.size, generator=generator, dtype=dtype)
    if batch.shape is None:
        raise InputError(f"data must be pictures, got table rows: {options.data}")
    b, n = batch.inputs.shape
    model = networks.fully_connected(
        n, options.width, options.depth, batch.classes, generator=generator, dtype=dtype
    )
    model.to(options.device)
    inputs, labels = batch.inputs.to(options.device), batch.labels.to(options.device)
    gradients = client.gradients(model, inputs, labels)
    print(
        f"A client sends the gradient of {b} private pictures, {n} numbers each, in a network of "
        f"{options.depth} linear layers, {options.width} wide. From it and the weights alone:"
    )
    # the server
    began = time.perf_counter()
    inversion = attack.invert(
        model, gradients, method=options.method, time_limit=options.time_limit, progress=True
    )
    seconds = time.perf_counter() - began
    # and who has seen both
    score = metrics.compare(inversion.inputs, batch.inputs)
    path.parent.mkdir(parents=True, exist_ok=True)
    replaced = ", in place of the file that was there" if path.exists() else ""
    picture.story(batch, next(iter(gradients.values())), inversion).save(path)
    return (
        f"{inversion}\nAgainst the truth: {int(score.exact.sum())} of {b} exact, worst "
        f"{float(score.psnr.min()):.0f} dB, largest error {score.largest_error:.1e}, in {seconds:.2f} s\n"
        f"Picture: {path}{replaced}"
    )


def _free(name: str) -> Path:
    """A name that no file in this folder has: what nobody asked to be replaced stays."""
    path, numbers = Path(name), itertools.count(2)
    while path.exists():
        path = Path(name).with_stem(f"{Path(name).stem}-{next(numbers)}")
    return path


def _check(options: argparse.Namespace, path: Path) -> None:
    """Refuse what would fail in the middle, or keep the picture from being written after the search."""
    for name in ("threads", "size"):
        if getattr(options, name) < 1:
            raise InputError(f"--{name} must be at least 1, got {getattr(options, name)}")
    if not -(2**63) <= options.seed < 2**64:
        raise InputError(f"--seed must be a number of 64 bits, got {options.seed}")
    try:
        torch.zeros(1, device=options.device).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device must be one that is here, got {options.device}: {reason}") from error
    if path.is_dir() or path.suffix.lower() not in Image.registered_extensions():
        raise InputError(f"--output must be the name of a picture, as recovered.png, got {path}")
    files.check_folder(path.parent, "the folder of --output")


if __name__ == "__main__":
    raise SystemExit(main())
