"""The exam with and without its key: in exam.md the quoted paragraphs are the key; its numbers are computed here."""

import re
from pathlib import Path

import torch

from spear_core.spear import sampling
from spear_core.study import privacy, theory
from teaching import pages

HERE = Path(__file__).resolve().parent
KEY = re.compile(r"(?:^>.*\n?)+", flags=re.MULTILINE)
ROOM = "<div class='room' style='height:{}mm'></div>\n"  # to write in: as much as there are points
ROWS = torch.tensor([[1, 1], [2, 2], [-1, -1], [1, -2], [-2, 4], [0.5, -1], [3, 0]], dtype=torch.float64)


def numbers() -> dict[str, str]:
    """What stands in double braces in exam.md."""
    weight_grad = torch.tensor([[2.0, 4, -2], [0, 0, 0], [-1, -2, 1]])
    bias_grad = torch.tensor([2.0, 0, -1])
    x = (weight_grad[0] / bias_grad[0]).int().tolist()
    values = torch.tensor([31, 12, 5.0, 0.8, 3e-7, 2e-7, 2e-7])
    draws = {b: sampling.expected_draws(b) for b in (8, 16)}
    output_grads = torch.tensor([[0, 0.3, 0, -0.2], [0.1, 0, 0, 0.4]])
    preactivations = torch.tensor([[-1, 2, -0.5, 1], [3, -2, 1, 0.2]])
    agreeing = (output_grads == 0) == (preactivations <= 0)
    epsilons = {sigma: privacy.epsilon(sigma, 1e-5) for sigma in (1.0, 0.01)}
    return {
        "x": f"({', '.join(map(str, x))})".replace("-", "−"),
        "count": str(int((values > 1e-6 * values[0]).sum())),
        "before": f"{6 * 3 * 32 * 32:,}",
        "after": str(6 * 6),
        "candidates": "; ".join(f"({a:g}, {b:g}): {zeros}" for (a, b), zeros in candidates()).replace(
            "-", "−"
        ),
        "draws_8": f"{draws[8]:,.0f}",
        "draws_16": f"{draws[16]:,.0f}",
        "ratio": f"{draws[16] / draws[8]:.0f}",
        "least": str(theory.least_zeros(200, 0.2)),
        "rejection": _small(theory.false_rejection(200, 0.2)),
        "acceptance": f"{theory.false_acceptance(200, 0.2):.0%}",
        "lambda": f"{int(agreeing.sum())}/{agreeing.numel()}",
        "half": str(400 // 2),
        "epsilon_1": f"{epsilons[1.0]:.1f}",
        "epsilon_001": f"{epsilons[0.01]:,.0f}",
        "factor_1": f"{torch.tensor(epsilons[1.0]).exp():.0f}",
    }


def _small(number: float) -> str:
    """A small number as 4 · 10⁻¹⁹."""
    first, _, exponent = f"{number:.0e}".partition("e-")
    return f"{first} · 10⁻{str(int(exponent)).translate(str.maketrans('0123456789', '⁰¹²³⁴⁵⁶⁷⁸⁹'))}"


def candidates() -> list[tuple[tuple[float, float], int]]:
    """All different null vectors of single rows of question 5, with the zeros of L q."""
    found: dict[tuple[float, float], int] = {}
    for first, second in ROWS.tolist():
        least = min(abs(part) for part in (first, second) if part)
        q = (abs(second) / least, -first / least if second > 0 else first / least)
        found[q] = int((ROWS @ torch.tensor(q, dtype=torch.float64) == 0).sum())
    return list(found.items())


def page(*, key: bool) -> str:
    """The exam as it is handed out, or with its key."""
    text = (HERE / "exam.md").read_text(encoding="utf-8")
    known = numbers()
    text = re.sub(r"\{\{(\w+)\}\}", lambda found: known[found[1]], text)
    parts = re.split(r"(?=^## )", text, flags=re.MULTILINE)
    body = pages.as_html(parts[0].replace("# Exam", "# Exam, with key" if key else "# Exam"))
    for part in parts[1:]:
        points = int(re.search(r"\((\d+) points\)", part)[1])  # type: ignore[index]
        shown = part if key else KEY.sub(ROOM.format(8 * points), part)
        body += f"<section>{pages.as_html(shown)}</section>"
    return pages.page("Exam, with key" if key else "Exam", body)
