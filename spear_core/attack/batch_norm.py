"""BatchNorm in training mode, with the running statistics that the client had after its step.

u = γ (W x + β₀ − μ)/s + β with μ and s of the batch itself, so errors flow back through them as well. With δᵢ = ∂L/∂uᵢ,
κ = ∂L/∂γ, the mean x̄ of the batch and C = Σ (xᵢ − x̄)(xᵢ − x̄)ᵀ,

    ∂L/∂W = diag(γ/s) [Σ δᵢ (xᵢ − x̄)ᵀ − diag(κ/(b s)) W C]   and   ∂L/∂β = Σ δᵢ.

The running statistics before and after tell μ and s. C lives in the row space of ∂L/∂W, which has b − 1 dimensions, and
wᵀ C w = b var for the weights w of every unit: m linear equations for its b (b − 1)/2 numbers. W x̄ = μ − β₀ tells x̄. So
diag(γ/s) Σ δᵢ xᵢᵀ follows: what the client would have sent with μ and s held fixed, in eval mode. Whatever inverts that
has inverted the client; and with the batch that it finds, C, μ and s are known better than the statistics tell them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from spear_core.attack.inversion import Inversion
from spear_core.certificate.record import Claim
from spear_core.errors import InputError, InputTypeError, MissingGradient, NotLowRank
from spear_core.fedavg.training import LocalTraining
from spear_core.linalg import beside, orthonormal
from spear_core.model.calls import LinearCall
from spear_core.model.checks import as_real, check_finite, check_shape
from spear_core.model.following import follow
from spear_core.model.parameters import strip
from spear_core.model.reading import Reading, choose
from spear_core.model.section import section_between
from spear_core.problem import Problem
from spear_core.spear.low_rank import LowRank, split
from spear_core.tolerances import precision

SPARE = 8  # equations beyond the unknowns, without which C is not determined
CONDITIONED = 1e-3  # smallest singular value of those equations, as a share of the largest
SEEN = 1e-6  # singular value of W, as a share of the largest, below which it does not see a direction of x̄
CANCELLED = 64.0  # rounding errors of the largest singular value, up to which errors that cancel leave one of their own
ALONG_MEAN = 0.9  # cosine from which that one lies along the mean
ROUNDED = 8.0  # rounding errors below zero that the variance of a unit may come out at
AGREES = 64.0  # rounding errors by which statistics of the recovered batch may miss those that were sent

Norm = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class Statistics:
    """What the running statistics before and after a step tell of its batch; shapes (m,), float64.

    Attributes:
        mean: μ.
        var: the variance that running statistics keep, divided by b − 1.
        blur: expected rounding error of both, of the mean in units of the deviation, of the variance relative.
    """

    mean: Tensor
    var: Tensor
    blur: Tensor

    @classmethod
    def of(cls, module: Norm, name: str, after: Mapping[str, Tensor]) -> "Statistics":
        """From the server's own module and the client's buffers."""
        if module.momentum is None:  # a cumulative average
            counted = module.num_batches_tracked
            share = 1.0 / (float(counted) + 1.0) if counted is not None else 1.0
        else:
            share = float(module.momentum)
        told, sizes, moved = [], [], False
        for kind in ("running_mean", "running_var"):
            before, now = getattr(module, kind), after[f"{name}.{kind}"]
            moved |= not torch.equal(before, now.to(before))
            told.append((now.double() - (1 - share) * before.double()) / share)
            sizes.append(precision(now.dtype) * (now.double().abs() + before.double().abs()) / share)
        mean, var = told
        if not moved or bool((var < -ROUNDED * sizes[1]).any()):
            got = f"variances down to {float(var.min()):.1e}" if moved else "those of the model"
            raise InputError(f"buffers of {name!r} must be those after the client's step, got {got}")
        var = var.clamp_min(0)
        spread = var.clamp_min(torch.finfo(var.dtype).tiny)
        return cls(mean, var, torch.maximum(sizes[0] / spread.sqrt(), sizes[1] / spread))


@dataclass(frozen=True)
class Normalised:
    """A linear layer with a BatchNorm in training mode right after it, as the server sees the two; float64.

    Attributes:
        call: the layer.
        norm: name of the BatchNorm.
        weight: W, shape (m, n).
        bias: β₀, shape (m,), zero where there is none.
        grad: ∂L/∂W, shape (m, n), of rank b − 1.
        gamma, shift_grad, scale_grad: γ, ∂L/∂β and κ = ∂L/∂γ, shape (m,).
        eps: what is added to the variance.
        statistics: of the batch.
        batch_size: b.
        dtype: of the gradients.
    """

    call: LinearCall
    norm: str
    weight: Tensor
    bias: Tensor
    grad: Tensor
    gamma: Tensor
    shift_grad: Tensor
    scale_grad: Tensor
    eps: float
    statistics: Statistics
    batch_size: int
    dtype: torch.dtype

    @property
    def variance(self) -> Tensor:
        """Of the batch, divided by b."""
        return self.statistics.var * (self.batch_size - 1) / self.batch_size

    @cached_property
    def mean_input(self) -> tuple[Tensor, int]:
        """x̄ as far as W sees it, shape (n,), and how many of its directions W does not see."""
        left, values, right = torch.linalg.svd(self.weight, full_matrices=False)
        seen = values > SEEN * values[0]
        along = left[:, seen].T @ (self.statistics.mean - self.bias) / values[seen]
        return right[seen].T @ along, self.weight.shape[1] - int(seen.sum())

    def spread_of_inputs(self) -> tuple[Tensor, Tensor, bool]:
        """W C, shape (m, n), by the variances of the units, and whether they determine it, else zero.

        And those variances as C has them: each unit's own is off by its rounding, C by what all leave together.
        """
        d = self.batch_size - 1
        rows = orthonormal(split(self.grad, d, generator=torch.Generator().manual_seed(0)).rows.T).T
        seen = self.weight @ rows.T
        i, j = torch.triu_indices(d, d, device=seen.device)
        if len(i) + SPARE > len(seen):
            return torch.zeros_like(self.weight), self.variance, False
        equations = seen[:, i] * seen[:, j] * torch.where(i == j, 1.0, 2.0)
        q, r = torch.linalg.qr(equations)
        values = torch.linalg.svdvals(r)
        if values[-1] < CONDITIONED * values[0]:
            return torch.zeros_like(self.weight), self.variance, False
        wanted = q.T @ (self.batch_size * self.variance)[:, None]
        entries = torch.linalg.solve_triangular(r, wanted, upper=True)[:, 0]
        C = torch.zeros(d, d, dtype=seen.dtype, device=seen.device)
        C[i, j] = entries
        C[j, i] = entries
        smooth = ((seen @ C) * seen).sum(dim=1) / self.batch_size
        return seen @ C @ rows, torch.where(smooth > 0, smooth, self.variance), True

    def held_fixed(self, spread: Tensor, mean_input: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """∂L/∂W, shape (m, n), and ∂L/∂β₀, shape (m,), as they were with μ and s held fixed."""
        var = variance + self.eps
        bias_grad = self.gamma * self.shift_grad / var.sqrt()
        back = (self.gamma * self.scale_grad / (self.batch_size * var))[:, None] * spread
        return self.grad + back + torch.outer(bias_grad, mean_input), bias_grad

    def sized(self, inputs: Tensor) -> Tensor:
        """A batch of inputs, shape (b, n), with its mean and its size as the statistics of all units tell them.

        Both are what BatchNorm takes out, so nothing behind it tells them.
        """
        x, told = inputs.to(self.weight), self.statistics
        centred = x - x.mean(dim=0)
        var = (centred @ self.weight.T).square().mean(dim=0)
        certain = told.blur.clamp_min(precision(torch.float64)) ** -2 * (told.var > 0) * (var > 0)
        ratio = self.variance / torch.where(var > 0, var, 1.0)
        return float((certain * ratio).sum() / certain.sum()) ** 0.5 * centred + self.mean_input[0]

    def held_fixed_by(self, inputs: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor]:
        """`held_fixed` for a batch of inputs that is known, shape (b, n); its statistics go to the BatchNorm."""
        mean = inputs.mean(dim=0)
        z = inputs @ self.weight.T + self.bias
        deviations = z - z.mean(dim=0)
        variance = deviations.square().mean(dim=0)
        _hold(norm, z.mean(dim=0), variance)
        return self.held_fixed(deviations.T @ (inputs - mean), mean, variance)

    def agrees(self, inputs: Tensor) -> bool:
        """Whether a batch of inputs, shape (b, n), has the statistics that were sent, to rounding."""
        x, told = inputs.to(self.weight), self.statistics
        z = x @ self.weight.T + self.bias
        rounding = AGREES * (told.blur + precision(inputs.dtype) * z.abs().amax(dim=0) / told.var.sqrt())
        off_mean = (z.mean(dim=0) - told.mean).abs() / told.var.sqrt()
        off_var = (z.var(dim=0) / told.var - 1).abs()
        live = told.var > 0
        return bool((torch.maximum(off_mean, off_var) <= rounding)[live].all())


@dataclass(frozen=True)
class Frozen:
    """A client whose BatchNorms were in training mode, read as if their statistics had stood still.

    Attributes:
        reading: model and gradients in eval mode.
        attacked: the attacked layer, if a BatchNorm follows it; else None.
        hidden: how many directions of the inputs' mean that layer does not see.
        determined: whether the statistics determine how its inputs are spread.
        behind: later layers with such a BatchNorm, which errors pass through on their way back.
        mixed: whether errors pass through others than the attacked layer's own.
    """

    reading: Reading
    attacked: Normalised | None = None
    hidden: int = 0
    determined: bool = True
    behind: tuple[Normalised, ...] = ()
    mixed: bool = False

    def problem(self, problem: Problem) -> Problem:
        """The problem with what is known of the way back."""
        return replace(problem, branches=problem.branches or self.mixed)

    def refined(self, inputs: Tensor) -> Reading:
        """The same with C, x̄ and s of a whole batch that was found, shape (b, n), and the layers behind it as well."""
        assert self.attacked is not None
        traced, reading = self.reading.traced, self.reading
        x = self.attacked.sized(inputs)
        start = self.attacked.call.node.all_input_nodes[0]
        for layer in (self.attacked, *self.behind):
            y = x
            if layer is not self.attacked:
                section = section_between(traced, start, layer.call.node.all_input_nodes[0])
                if section is None:
                    break
                y = section.run(x, torch.float64)
            reading = _with(reading, layer, *layer.held_fixed_by(y, traced.root.get_submodule(layer.norm)))
        return reading

    def concluded(self, found: Inversion) -> Inversion:
        """The result with the claims that hold, and with what stays hidden."""
        layer = self.attacked
        if layer is None or not len(found.inputs):
            return found
        n = layer.weight.shape[1]
        reason, claim = "", Claim.NOTHING
        if len(found.inputs) < layer.batch_size or not layer.agrees(found.inputs):
            reason = "the rows found do not have the statistics that BatchNorm's buffers tell of the batch"
        elif not self.determined:
            unknowns = layer.batch_size * (layer.batch_size - 1) // 2
            reason = (
                f"BatchNorm in training mode: the variances of {len(layer.weight)} units do not determine the "
                f"{unknowns} numbers that say how {layer.batch_size} samples are spread, so nothing is proven"
            )
        elif self.hidden:
            claim = Claim.SHIFTED
            reason = (
                f"layer {layer.call.name!r} does not see {self.hidden} of {n} directions of its inputs, and BatchNorm "
                "subtracts their mean: every row is a sample less the part of the mean that lies there"
            )
        if not reason:
            return found
        claims = tuple(claim if given is Claim.SAMPLE else Claim.NOTHING for given in found.claims)
        none = torch.zeros_like(found.certified_rows)
        return replace(
            found, claims=claims, certified=False, certified_rows=none, notes=(*found.notes, reason)
        )


def frozen(
    reading: Reading,
    buffers: Mapping[str, object],
    layer: str | None = None,
    batch_size: int | None = None,
    training: LocalTraining | None = None,
    input_shape: Sequence[int] | None = None,
) -> Frozen:
    """Read a client's gradients as if the BatchNorms in training mode had had their statistics fixed.

    Args:
        reading: the model, which is left as it is, and the client's gradients.
        buffers: those of the client after the step, by name, as in its `state_dict()`.
        layer: name of the attacked layer; by default the first.
        batch_size: b; by default one more than the rank of ∂L/∂W.
        training: what the client did; several local steps are refused.
        input_shape: of the network's inputs; the way on to them is refused, since errors flow back otherwise there.

    Raises:
        InputError: buffers that are none of the model's, or not of one step; a BatchNorm without γ and β.
    """
    if input_shape is not None:
        raise InputError("input_shape must be None with buffers: only rows of the layer are sought then")
    if training is not None:
        raise InputError("local_steps must be None with buffers: those of several steps tell no single batch")
    root = reading.traced.root
    statistics = _stand_still(root, buffers)
    chosen, met = choose(reading, layer)[0].name, set()
    result = Frozen(reading)
    for call in reading.calls:
        way = follow(reading.traced, call, reading.calls)
        own = way.before.modules if way.before is not None else ()
        if len(own) != 1 or own[0] not in statistics:
            continue
        met.add(own[0])
        if call.name != chosen:
            if result.attacked is not None and reading.reached(call):
                normalised = _normalised(
                    reading, call, own[0], statistics[own[0]], result.attacked.batch_size
                )
                # until the batch is known, its mean is not: the chain ends here
                read = _with(result.reading, normalised, None, None)
                result = replace(result, reading=read, behind=(*result.behind, normalised))
            continue
        normalised = _normalised(reading, call, own[0], statistics[own[0]], batch_size)
        mean, hidden = normalised.mean_input
        spread, variance, determined = normalised.spread_of_inputs()
        _hold(root.get_submodule(own[0]), normalised.statistics.mean, variance)
        read = _with(result.reading, normalised, *normalised.held_fixed(spread, mean, variance))
        result = replace(result, reading=read, attacked=normalised, hidden=hidden, determined=determined)
    own_name = result.attacked.norm if result.attacked is not None else None
    return replace(result, mixed=any(name != own_name for name in statistics))


def _stand_still(root: nn.Module, buffers: Mapping[str, object]) -> dict[str, Statistics]:
    """Put BatchNorms in training mode, of a replica, into eval mode with the statistics of the client's batch."""
    norms = {
        strip(name): (name, module)
        for name, module in root.named_modules()
        if isinstance(module, Norm) and module.training and module.track_running_stats
    }
    after = _checked(root, buffers)
    kinds = ("running_mean", "running_var")
    told = [norms[name] for name in norms if all(f"{name}.{kind}" in after for kind in kinds)]
    if not told:
        names = ", ".join(repr(name) for name in norms) or "none"
        raise InputError(
            "buffers must hold running_mean and running_var of a BatchNorm in training mode, which are "
            f"{names}, got {', '.join(map(repr, list(after)[:4])) or 'nothing'}"
        )
    statistics = {name: Statistics.of(module, strip(name), after) for name, module in told}
    for name, module in told:
        module.eval()
        _hold(module, statistics[name].mean, statistics[name].var)
    return statistics


def _hold(norm: nn.Module, mean: Tensor, variance: Tensor) -> None:
    assert isinstance(norm, Norm) and norm.running_mean is not None and norm.running_var is not None
    norm.running_mean, norm.running_var = mean.to(norm.running_mean), variance.to(norm.running_var)


def _checked(root: nn.Module, buffers: Mapping[str, object]) -> dict[str, Tensor]:
    """The buffers by the names that the model has for them; parameters may be among them, as in a state_dict."""
    if not isinstance(buffers, Mapping):
        raise InputTypeError(f"buffers must be a mapping from names to tensors, got {type(buffers).__name__}")
    own = {strip(name): buffer for name, buffer in root.named_buffers()}
    parameters = {strip(name) for name, _ in root.named_parameters()}
    found = {}
    for key, value in buffers.items():
        name = strip(key) if isinstance(key, str) else key
        if name not in own:
            if name in parameters:
                continue
            known = ", ".join(map(repr, list(own)[:4]))
            raise InputError(f"names of buffers must be those of the model ({known}, …), got {key!r}")
        if own[name].dim() == 0:  # how many batches were seen
            continue
        tensor = as_real(value, f"buffer {name!r}")
        check_shape(tensor.shape, f"buffer {name!r}", own[name].shape)
        check_finite(tensor, f"buffer {name!r}")
        found[name] = tensor
    return found


def _normalised(
    reading: Reading, call: LinearCall, norm: str, statistics: Statistics, batch_size: int | None
) -> Normalised:
    root = reading.traced.root
    module = root.get_submodule(norm)
    assert isinstance(module, Norm)
    G, shift, scale = (reading.gradient(name) for name in (call.weight, f"{norm}.bias", f"{norm}.weight"))
    if module.weight is None or module.bias is None:
        raise InputError(f"BatchNorm {norm!r} must have a weight and a bias, got affine=False")
    for name, value in ((call.weight, G), (f"{norm}.bias", shift), (f"{norm}.weight", scale)):
        if value is None:
            raise MissingGradient(f"gradients must include {strip(name)!r}, which undoes BatchNorm {norm!r}")
    assert G is not None and shift is not None and scale is not None
    c, d = call.factors
    weight = c * root.get_parameter(call.weight).detach().double()
    bias = weight.new_zeros(len(weight)) if call.bias is None else d * root.get_parameter(call.bias).detach()
    low_rank = split(G, generator=torch.Generator().manual_seed(0))
    cancelled = low_rank.complete and _is_rounding_of_mean(low_rank, weight, statistics.mean - bias)
    if cancelled:  # along x̄, which W sees a part of only
        G = G - (low_rank.factor[:, -1:] @ low_rank.rows[-1:]).to(G.dtype)
    if batch_size is None:
        if not low_rank.complete:
            raise NotLowRank(
                f"the gradient of {call.weight!r} must be of a rank below {min(G.shape)}, which is b − 1 "
                f"before a BatchNorm in training mode, got {low_rank.batch_size}"
            )
        batch_size = low_rank.batch_size + 1 - cancelled
    if batch_size < 2:
        raise InputError(
            f"batch_size must be 2 at least before a BatchNorm in training mode, got {batch_size}"
        )
    return Normalised(
        call=call,
        norm=norm,
        weight=weight,
        bias=bias.double(),
        grad=G.double() / c,
        gamma=module.weight.detach().double(),
        shift_grad=shift.double(),
        scale_grad=scale.double(),
        eps=module.eps,
        statistics=statistics,
        batch_size=batch_size,
        dtype=G.dtype,
    )


def _is_rounding_of_mean(low_rank: LowRank, weight: Tensor, seen_mean: Tensor) -> bool:
    """Whether the last direction is what errors leave that add up to rounding: it lies along W x̄, shape (m,)."""
    values, b = low_rank.singular_values, low_rank.batch_size
    if b < 2 or float(values[b - 1]) > CANCELLED * precision(torch.float32) * float(values[0]):
        return False
    rest = orthonormal(weight @ low_rank.rows[:-1].T)
    last, mean = beside(rest, torch.stack([weight @ low_rank.rows[-1], seen_mean], dim=1)).T
    return bool((last @ mean).abs() > ALONG_MEAN * last.norm() * mean.norm())


def _with(
    reading: Reading, layer: Normalised, weight_grad: Tensor | None, bias_grad: Tensor | None
) -> Reading:
    """The reading with other gradients of a layer, or none."""
    call, gradients = layer.call, dict(reading.gradients)
    c, d = call.factors
    gradients[strip(call.weight)] = None if weight_grad is None else (c * weight_grad).to(layer.dtype)
    if call.bias is not None:
        gradients[strip(call.bias)] = None if bias_grad is None else (d * bias_grad).to(layer.dtype)
    return replace(reading, gradients=gradients)
