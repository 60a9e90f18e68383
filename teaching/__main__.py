"""Make everything of the teacher's side: `python -m teaching [--seed N] [--out DIR]`."""

import argparse
from pathlib import Path

import torch

from spear_widgets.capstone import grade
from teaching import answers, capstone, deck, exam


def main(arguments: list[str] | None = None) -> int:
    """Make deck, answer key, exam with and without key, and the capstone's messages with their key."""
    parser = argparse.ArgumentParser(prog="python -m teaching", description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("build/teaching"), help="folder (default: build/teaching)"
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=capstone.PUBLISHED_SEED,
        help="of the capstone; by default the published one, whose key anybody can compute",
    )
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    truth = grade.key(capstone.write(out, options.seed))
    points = {name: int(truth[f"{name}_best"]) for name in capstone.CLIENTS}
    pages = {
        "deck": deck.page(),
        "answers": answers.page(points),
        "exam": exam.page(key=False),
        "exam-with-key": exam.page(key=True),
    }
    for name, page in pages.items():
        (out / f"{name}.html").write_text(page, encoding="utf-8")
    for path in sorted(out.rglob("*.*")):
        print(f"{path.stat().st_size / 1000:8,.0f} kB  {path}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
