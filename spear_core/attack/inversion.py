"""The result of an attack: what was recovered, and how far it can be trusted."""

import html
from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spear_core.certificate import words
from spear_core.certificate.record import Claim
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
        certified_rows: which rows are proven to be one sample each, exact to rounding, shape (k,).
        claims: what is proven of each row, length k: one sample; or a sample, or a weighted mean of several that no
            gradient of this kind tells apart; or nothing. docs/certificate.md states the theorem.
        sparsity_match: λ, the share of (sample, unit) pairs with [∂L/∂z = 0] = [z ≤ 0]; NaN without ReLU.
            A certified batch may fall short of 1 by entries that are too small by chance to tell from zero.
        gradient_residual: relative distance of the recovered batch's gradient from the observed one.
        samples_drawn: candidates tested by sampling, or random starts of the other methods.
        seconds: time by step.
        method: what found the samples: "sampling", "halfspace", "consistency" or several joined by "+".
        notes: what the reader of the result must know, in words: why it is not certified, what is missing.
        network_inputs: with `input_shape`, inputs of the network that give `inputs`, shape (k, *input_shape), in the
            same order; NaN where none was sought. None without `input_shape`, or where a note says why.
        network_inputs_certified: which of these are proven, shape (k,); docs/certificate.md says what of them.
        network_inputs_found: how many of them give the rows of `inputs` to rounding.
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
    notes: tuple[str, ...] = ()
    claims: tuple[Claim, ...] = ()
    network_inputs: Tensor | None = None
    network_inputs_certified: Tensor | None = None
    network_inputs_found: int = 0

    def _lines(self) -> list[tuple[str, str]]:
        count, rows = int(self.certified_rows.sum()), len(self.certified_rows)
        means = self.claims.count(Claim.MEAN)
        state = "certified exact" if count == rows > 0 else f"{count} certified exact, {rows - count} not"
        state += f"; {means} exact as samples or means" if means else ""
        shifted = self.claims.count(Claim.SHIFTED)
        state += f"; {shifted} exact but for a vector that they share" if shifted else ""
        labels = "not identified" if self.labels is None else str(self.labels.tolist())
        counted = "draws and starts" if "sampling" in self.method else "starts"
        if self.method == "sampling":
            counted = "draws"
        seconds = sum(self.seconds.values())
        return [
            ("recovered", f"{len(self.inputs)} of {self.batch_size} samples, {state}"),
            *self._network_lines(),
            ("labels", labels if len(labels) <= 80 else labels[:77] + "…"),
            ("sparsity match λ", f"{self.sparsity_match:.6f}"),
            ("gradient residual", f"{self.gradient_residual:.1e}"),
            ("method", f"{self.method}, {self.samples_drawn:,} {counted}, {seconds:.3f} s"),
            *(("note", note) for note in self.notes),
        ]

    def _network_lines(self) -> list[tuple[str, str]]:
        if self.network_inputs is None or self.network_inputs_certified is None:
            return []
        shape, proven = tuple(self.network_inputs.shape[1:]), int(self.network_inputs_certified.sum())
        found, what = self.network_inputs_found, "pictures" if len(shape) > 1 else "inputs"
        state = "certified" if proven == found > 0 else f"{proven} certified"
        return [("network inputs", f"{found} of {self.batch_size} {what} {shape}, {state}")]

    def __repr__(self) -> str:
        return "Inversion\n" + "\n".join(f"  {name:18} {text}" for name, text in self._lines())

    def _repr_html_(self) -> str:
        return table("Inversion", ([("h", name), ("d", text)] for name, text in self._lines()))


def table(caption: str, rows: Iterable[Iterable[tuple[str, str]]]) -> str:
    """A table in HTML, of cells (kind, text), kind "h" for a head and "d" for data."""
    cell = "<t{0} style='text-align:left'>{1}</t{0}>".format
    lines = ("".join(cell(kind, html.escape(text)) for kind, text in row) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><caption>{html.escape(caption)}</caption>{body}</table>"


def as_inversion(state: State, problem: Problem) -> Inversion:
    """The result that a state amounts to; of the last state, the result of the attack."""
    gradient, b = problem.attacked.weight_grad, state.batch_size
    # float64 results in the dtype of the gradients that they come from, float32 at least
    like = gradient.new_zeros(0, dtype=torch.promote_types(gradient.dtype, torch.float32))
    m, n = gradient.shape
    notes = (*state.notes, *problem.notes)
    nothing = Inversion(
        inputs=like.new_zeros(0, n),
        output_grads=like.new_zeros(0, m),
        labels=None,
        batch_size=b,
        certified=state.certified,
        certified_rows=like.new_zeros(0, dtype=torch.bool),
        sparsity_match=0.0,
        gradient_residual=1.0,
        samples_drawn=state.samples_drawn,
        seconds=state.seconds,
        method=state.method,
        notes=(*notes, f"none of the {b} samples was found"),
    )
    found, certificate = state.reconstruction, state.certificate
    if found is None or certificate is None:
        return nothing
    missing = b - len(found.coefficients)
    guesses = "; the others are guesses" if not certificate.proven_rows.all() else ""
    if missing:
        notes = (*notes, f"{missing} of {b} samples are missing{guesses}")
    inputs = found.inputs[:, :n]  # without that of the bias, where it was one more
    notes = (*notes, *words.notes(certificate), *words.small_columns(inputs, certificate))
    return replace(
        nothing,
        inputs=inputs.to(like.dtype),
        output_grads=certificate.output_grads.to(like.dtype),
        labels=certificate.labels,
        certified_rows=certificate.certified_rows,
        claims=certificate.claims,
        sparsity_match=found.sparsity_match,
        gradient_residual=certificate.gradient_residual,
        notes=notes,
    )
