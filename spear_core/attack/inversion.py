"""The result of an attack: what was recovered, and how far it can be trusted."""

import html
from dataclasses import dataclass, field

import torch
from torch import Tensor

from spear_core.problem import Problem
from spear_core.search import State


@dataclass(frozen=True)
class Inversion:
    """A recovered batch with its diagnostics. Rows come in no particular order: a gradient knows none.

    Attributes:
        inputs: recovered inputs of the attacked layer, shape (k, n); k = b if every sample was found.
        output_grads: (∂L/∂Z)ᵀ of these samples, shape (k, m).
        labels: class of each sample, shape (k,), −1 where no single one explains it, as of a sample that is in the
            batch with two; None where the loss is not a classification's.
        batch_size: b, what the gradient's rank says.
        certified: whether all b samples are certified.
        certified_rows: which rows are proven exact (to rounding), shape (k,).
        sparsity_match: λ, the share of (sample, unit) pairs with [∂L/∂z = 0] = [z ≤ 0]; NaN without ReLU.
            A certified batch may fall short of 1 by entries that are too small by chance to tell from zero.
        gradient_residual: relative distance of the recovered batch's gradient from the observed one.
        samples_drawn: candidates tested by sampling, or random starts of the other methods.
        seconds: time by step.
        method: what found the samples: "sampling", "halfspace", "consistency" or several joined by "+".
        notes: what the reader of the result must know, in words: why it is not certified, what is missing.
    """

    inputs: Tensor
    output_grads: Tensor
    labels: Tensor | None
    batch_size: int
    certified: bool
    certified_rows: Tensor
    sparsity_match: float
    gradient_residual: float
    samples_drawn: int
    seconds: dict[str, float]
    method: str
    notes: tuple[str, ...] = field(default=())

    def _lines(self) -> list[tuple[str, str]]:
        count, rows = int(self.certified_rows.sum()), len(self.certified_rows)
        state = "certified exact" if count == rows > 0 else f"{count} certified exact, {rows - count} not"
        labels = "not identified" if self.labels is None else str(self.labels.tolist())
        if len(labels) > 80:
            labels = labels[:77] + "…"
        if self.method == "sampling":
            counted = "draws"
        else:
            counted = "draws and starts" if "sampling" in self.method else "starts"
        return [
            ("recovered", f"{len(self.inputs)} of {self.batch_size} samples, {state}"),
            ("labels", labels),
            ("sparsity match λ", f"{self.sparsity_match:.6f}"),
            ("gradient residual", f"{self.gradient_residual:.1e}"),
            (
                "method",
                f"{self.method}, {self.samples_drawn:,} {counted}, {sum(self.seconds.values()):.3f} s",
            ),
            *(("note", note) for note in self.notes),
        ]

    def __repr__(self) -> str:
        return "Inversion\n" + "\n".join(f"  {name:18} {text}" for name, text in self._lines())

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(name)}</th>"
            f"<td style='text-align:left'>{html.escape(text)}</td></tr>"
            for name, text in self._lines()
        )
        return f"<table><caption>Inversion</caption>{rows}</table>"


def restore_precision(values: Tensor, like: Tensor) -> Tensor:
    """Float64 results in the dtype of the gradients that they come from (float32 at least)."""
    return values.to(torch.promote_types(like.dtype, torch.float32))


def as_inversion(state: State, problem: Problem) -> Inversion:
    """The result that a state amounts to; of the last state, the result of the attack."""
    like = problem.attacked.weight_grad
    m, n = like.shape
    b = state.batch_size
    found, certificate = state.reconstruction, state.certificate
    if found is None or certificate is None:
        empty = torch.zeros(0, dtype=torch.bool, device=like.device)
        return Inversion(
            inputs=restore_precision(empty.new_zeros(0, n, dtype=torch.float64), like),
            output_grads=restore_precision(empty.new_zeros(0, m, dtype=torch.float64), like),
            labels=None,
            batch_size=b,
            certified=False,
            certified_rows=empty,
            sparsity_match=0.0,
            gradient_residual=1.0,
            samples_drawn=state.samples_drawn,
            seconds=state.seconds,
            method=state.method,
            notes=(*state.notes, *problem.notes, f"none of the {b} samples was found"),
        )
    missing, proven = b - len(found.coefficients), certificate.certified_rows
    guesses = "; the others are guesses" if not proven.all() else ""
    notes = (f"{missing} of {b} samples are missing{guesses}",) if missing else ()
    return Inversion(
        inputs=restore_precision(found.inputs, like),
        output_grads=restore_precision(certificate.output_grads, like),
        labels=certificate.labels,
        batch_size=b,
        certified=state.certified,
        certified_rows=certificate.certified_rows,
        sparsity_match=found.sparsity_match,
        gradient_residual=certificate.gradient_residual,
        samples_drawn=state.samples_drawn,
        seconds=state.seconds,
        method=state.method,
        notes=(*state.notes, *problem.notes, *notes, *certificate.notes),
    )
