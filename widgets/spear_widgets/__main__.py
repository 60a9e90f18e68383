"""The command `spear-tutorial`: the notebooks in a folder of your own, and the attack without a notebook."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from spear_widgets.kit.shipped import shipped

FOLDER = "my-notebooks"
FIRST = "00_start_here.ipynb"
CORE = {  # commands of `python -m spear_core`, and what that calls them
    "demo": ([], "24 photographs: gradient in, photographs out, as one picture"),
    "invert": (["invert"], "recover the batch behind your own gradients"),
    "diagnose": (["diagnose"], "what each linear layer of your own model would give away"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status, 2 for bad input."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments and arguments[0] in CORE:  # which has options, help and errors of its own
        from spear_core.__main__ import main as core

        name, *rest = arguments
        before, _ = CORE[name]
        return core([*before, *rest], prog="spear-tutorial" if before else f"spear-tutorial {name}")
    parser = _parser()
    options, others = parser.parse_known_args(arguments)
    if others and options.run is not start:  # whose other options are JupyterLab's
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    options.lab = others
    try:
        status: int = options.run(options)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    """A new command is a parser here whose `run` takes the options and returns the exit status."""
    parser = argparse.ArgumentParser(prog="spear-tutorial", description="SPEAR, step by step.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    added = commands.add_parser(
        "start",
        help="copy the notebooks into a folder of yours and open the first one in JupyterLab",
        epilog="Other options are passed on to JupyterLab, as --no-browser or --port=8900.",
        allow_abbrev=False,
    )
    added.add_argument(
        "folder", nargs="?", metavar="DIR", type=Path, default=Path(FOLDER), help=f"default: {FOLDER}"
    )
    added.add_argument("--copy-only", action="store_true", help="copy, and open nothing")
    added.set_defaults(run=start)
    for name, (_, what) in CORE.items():
        commands.add_parser(name, help=what)
    return parser


def start(options: argparse.Namespace) -> int:
    """Copy the notebooks, say what was copied, and become JupyterLab on the first one."""
    copied, kept = copy(options.folder)
    print(f"{options.folder}: {len(copied)} notebooks copied, {len(kept)} were there and stay as they are")
    if options.copy_only:
        return 0
    from jupyterlab.labapp import main as lab

    # it refuses to start for root, as whom containers run, unless told that this is meant
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    lab([*root, *options.lab, str(options.folder / FIRST)])
    return 0


def copy(folder: Path) -> tuple[list[str], list[str]]:
    """Copy the notebooks into a folder, made if need be; what is there is never overwritten.

    Returns the names of those copied and of those that were there.

    Raises:
        NotADirectoryError: `folder` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"DIR must be a folder, or a name for one, got a file: {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    copied: list[str] = []
    kept: list[str] = []
    for source in sorted(shipped("notebooks").iterdir(), key=lambda source: source.name):
        if source.name.endswith(".ipynb"):
            target = folder / source.name
            (kept if target.exists() else copied).append(source.name)
            if not target.exists():
                target.write_bytes(source.read_bytes())
    return copied, kept


if __name__ == "__main__":
    raise SystemExit(main())
