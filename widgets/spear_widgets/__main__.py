"""The command `spear-tutorial`: the notebooks in a folder of your own, and the attack without a notebook."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from spear_widgets.copies import copy

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
    added.add_argument(
        "--for-students", action="store_true", help="a copy that shows no solutions of the exercises"
    )
    added.add_argument("--copy-only", action="store_true", help="copy, and open nothing")
    added.set_defaults(run=start)
    added = commands.add_parser("grade", help="grade what a class has handed in, into a table")
    added.add_argument("files", nargs="+", metavar="FILE", type=Path, help="notebooks, and capstone.npz")
    added.add_argument("--key", type=Path, help="key.npz of the capstone, which the teacher has")
    added.add_argument("--out", type=Path, default=Path("grades.csv"), help="the table (default: grades.csv)")
    added.add_argument("--seconds", type=float, default=60.0, help="for an answer (default: 60)")
    added.add_argument("--megabytes", type=int, default=2048, help="for an answer, on Linux (default: 2048)")
    added.set_defaults(run=grade)
    added = commands.add_parser("progress", help="which exercises are solved")
    added.add_argument(
        "folder", nargs="?", metavar="DIR", type=Path, default=Path(FOLDER), help=f"default: {FOLDER}"
    )
    added.set_defaults(run=progress)
    for name, (_, what) in CORE.items():
        commands.add_parser(name, help=what)
    return parser


def grade(options: argparse.Namespace) -> int:
    """Grade all files, write the table, and say what each person has."""
    from spear_widgets import grades

    lines = grades.graded(options.files, options.key, seconds=options.seconds, megabytes=options.megabytes)
    print(grades.write(lines, options.out))
    return 0


def progress(options: argparse.Namespace) -> int:
    """Say which exercises are solved in a folder with notebooks."""
    from spear_widgets.progress import report

    if not options.folder.is_dir():
        raise NotADirectoryError(f"DIR must be a folder with notebooks, got {options.folder}")
    print(report(options.folder))
    return 0


def start(options: argparse.Namespace) -> int:
    """Copy the notebooks, say what was copied, and become JupyterLab on the first one."""
    copied, kept = copy(options.folder, for_students=options.for_students)
    print(f"{options.folder}: {len(copied)} notebooks copied, {len(kept)} were there and stay as they are")
    if options.copy_only:
        return 0
    from jupyterlab.labapp import main as lab

    # it refuses to start for root, as whom containers run, unless told that this is meant
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    lab([*root, *options.lab, str(options.folder / FIRST)])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
