"""What people answer, and what each answer gets: RIGHT, or a hint of which these words are a part.

A row is an answer: add one with the words that it ought to get. Right answers come in many styles, and none of them
may be refused; a wrong one must get a hint that says what is wrong with this one.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize
import scipy.spatial
import scipy.special
import scipy.stats
import torch
from torch.linalg import eigh, lstsq, matrix_rank, pinv, qr, solve, svd, svdvals
from torch.nn import functional as F

import spear_core
from spear_core.study import metrics
from spear_widgets import course
from spear_widgets.kit.exercise import Exercise
from tests.widgets.kit.small_exercises import BATCH_FROM, DIRECTION_FROM

RIGHT = "Correct on all"
EXERCISES = {
    one.name: one
    for chapter in course.chapters()
    for one in chapter.exercises.values()
    if isinstance(one, Exercise)
}
EXERCISES |= {one.name: one for one in (BATCH_FROM, DIRECTION_FROM)}  # small ones, to try the checker on
Row = tuple[str, Callable]


# ---------------------------------------------------------------- answers that take more than a line
def count_by_gap(G):
    S = svdvals(G.double())
    S = (S / S[0]).clamp(min=torch.finfo(G.dtype).eps / 100)
    ratios = S[:-1] / S[1:]
    return int(ratios.argmax()) + 1 if ratios.max() > 15 else 0


def count_by_logarithms(G):
    S = np.linalg.svd(G.double().numpy(), compute_uv=False)
    steps = -np.diff(np.log10(np.maximum(S / S[0], 1e-2 * torch.finfo(G.dtype).eps)))
    return np.argmax(steps) + 1 if steps.max() > 1.3 else 0


def count_by_dtype(G):
    S = svdvals(G.double())
    tolerance = {torch.float16: 1e-2, torch.float32: 1e-6, torch.float64: 1e-12}[G.dtype]
    count = (tolerance * S[0] < S).sum()
    return count if count < len(S) else 0


def count_in_a_loop(G):
    values = svdvals(G.double()).tolist()
    best, place = 0.0, 0
    for i in range(len(values) - 1):
        ratio = values[i] / max(values[i + 1], 1e-3 * torch.finfo(G.dtype).eps * values[0])
        if ratio > best:
            best, place = ratio, i + 1
    return place if best > 30 else 0


def count_by_gram(G):
    """Squares of singular values: in 64 bits their rounding hides the cliff."""
    values = torch.linalg.eigvalsh(G.double() @ G.double().T).flip(0).clamp(min=1e-300)
    ratios = values[:-1] / values[1:]
    return int(ratios.argmax()) + 1


def whose_in_loops(recovered, private):
    found = []
    for row in recovered:
        distances = [(row - sample).pow(2).sum().item() for sample in private]
        found.append(distances.index(min(distances)))
    return found


def members_by_distance(model, gradients, b, candidates):
    found = spear_core.invert(model, gradients, batch_size=b, method="sampling", max_samples=500)
    sure = found.inputs[found.certified_rows]
    said = []
    for candidate in candidates:
        nearest = min(((row - candidate).norm() / candidate.norm() for row in sure), default=math.inf)
        said.append(True if nearest < 1e-3 else False if found.certified else None)
    return said


def attacked(model, gradients, b):
    return spear_core.invert(model, gradients, batch_size=b, method="sampling", max_samples=500)


def members_in_loops(model, gradients, batch_size, candidates):
    result, answers = attacked(model, gradients, batch_size), []
    for candidate in candidates:
        answer = False if result.certified else None
        for row, sure in zip(result.inputs, result.certified_rows):
            if sure and torch.allclose(row, candidate, atol=1e-3):
                answer = True
        answers.append(answer)
    return answers


def members_of_all_rows(model, gradients, batch_size, candidates):
    rows = attacked(model, gradients, batch_size).inputs
    return [any(torch.allclose(row, one, atol=1e-3) for row in rows) for one in candidates]


def members_if_all_is_certified(model, gradients, batch_size, candidates):
    result = attacked(model, gradients, batch_size)
    if not result.certified:
        return [None for _ in candidates]
    return [any(torch.allclose(row, one, atol=1e-3) for row in result.inputs) for one in candidates]


def members_without_a_no(model, gradients, batch_size, candidates):
    result = attacked(model, gradients, batch_size)
    sure = result.inputs[result.certified_rows]
    return [True if any(torch.allclose(row, one, atol=1e-3) for row in sure) else None for one in candidates]


def spear_of_many_draws(G, g, W, beta):
    """Hundreds of candidates at once, all fitted, the sparsest independent ones by Gram and Schmidt."""
    split = svd(G.double(), full_matrices=False)
    b = int((1e-6 * split.S[0] < split.S).sum())
    L, R = split.U[:, :b], torch.diag(split.S[:b]) @ split.Vh[:b]
    live = F.normalize(L[L.norm(dim=1) > 1e-6])
    pool = L.new_zeros(0, b)
    for seed in range(400):
        random = torch.Generator().manual_seed(seed)
        sets = torch.rand(500, len(live), generator=random).topk(b - 1).indices
        for q in svd(live[sets]).Vh[:, -1]:
            zero = (L @ q).abs() < 1e-5 * (L @ q).abs().max()
            if zero.double().mean() > 0.2:
                pool = torch.cat([pool, svd(L[zero]).Vh[-1:]])
        entries = (L @ pool.T).abs()
        zeros = (entries < 1e-6).sum(dim=0)
        chosen, frame = [], L.new_zeros(0, b)
        for k in zeros.argsort(descending=True).tolist():
            rest = pool[k] - frame.T @ (frame @ pool[k])
            if len(chosen) < b and rest.norm() > 1e-3:
                chosen.append(k)
                frame = torch.cat([frame, F.normalize(rest, dim=0)[None]])
        if len(chosen) == b:
            Q = pool[chosen].T
            Q = Q * lstsq(L @ Q, g.double()[:, None]).solution.T
            X = solve(Q, R)
            if torch.equal((L @ Q).abs() < 1e-8, (W.double() @ X.T + beta.double()[:, None]) <= 0):
                return X
    return X


def spear_in_numpy(G, g, W, beta):
    """The same in numpy, one draw after the other."""
    G, g, W, beta = (np.asarray(part, dtype=float) for part in (G, g, W, beta))
    U, S, Vt = np.linalg.svd(G, full_matrices=False)
    b = int(np.sum(1e-6 * S[0] < S))
    L, R = U[:, :b], S[:b, None] * Vt[:b]
    live = L[np.abs(L).max(axis=1) > 1e-7]
    random, pool = np.random.default_rng(0), []
    while True:
        rows = live[random.choice(len(live), b - 1, replace=False)]
        y = L @ np.linalg.svd(rows)[2][-1]
        zero = np.abs(y) < 1e-5 * np.abs(y).max()
        if zero.sum() < 0.25 * len(L):
            continue
        q = np.linalg.svd(L[zero])[2][-1]
        if any(abs(q @ other) > 1 - 1e-6 for _, other in pool):
            continue
        pool = sorted([*pool, (-int(zero.sum()), q)], key=lambda entry: entry[0])
        chosen = []
        for _, q in pool:
            if np.linalg.matrix_rank([*chosen, q], tol=1e-4) > len(chosen):
                chosen.append(q)
        if len(chosen) < b:
            continue
        Q = np.array(chosen).T
        Q = Q * np.linalg.lstsq(L @ Q, g, rcond=None)[0]
        X = np.linalg.solve(Q, R)
        if np.array_equal(np.abs(L @ Q) < 1e-8, (W @ X.T + beta[:, None]) <= 0):
            return X[::-1].copy()


def spear_unscaled(G, g, W, beta):
    X = spear_of_many_draws(G, g, W, beta)
    return F.normalize(X, dim=1)


def largest_kept(grad, share):
    flat = grad.abs().flatten()
    return grad * (grad.abs() >= flat.topk(max(1, int(share * len(flat)))).values[-1])


def noised(grad, generator, share):
    return grad + share * grad.square().mean().sqrt() * torch.randn(grad.shape, generator=generator)


def in_three_bits(grad, generator):
    values = torch.linspace(-1, 1, 7) * grad.abs().max()
    return values[(grad[..., None] - values).abs().argmin(dim=-1)]


def shared_in_loops(D):
    b, m = D.shape
    return [
        [sum(bool(D[i, j] == 0) and bool(D[k, j] == 0) for j in range(m)) / m for k in range(b)]
        for i in range(b)
    ]


def two_by_unique_lines(L):
    """Lines by their angle, and how many rows propose each."""
    live = L[L.norm(dim=1) > 1e-6]
    angle = torch.atan2(live[:, 1], live[:, 0]) % math.pi
    lines, counts = torch.unique(angle.round(decimals=4), return_counts=True)
    best = lines[counts.topk(2).indices]
    exact = torch.stack([angle[(angle - line).abs() < 2e-4].mean() for line in best])
    return torch.stack([-exact.sin(), exact.cos()])


def two_with_signs_turned(L):
    return -EXERCISES["02/two_directions"].reference(L).flip(1)


def two_not_normalised(L):
    return 2 * EXERCISES["02/two_directions"].reference(L)


def two_as_rows(L):
    return EXERCISES["02/two_directions"].reference(L).T


def noise_of(L, S, n):
    m, b = L.shape
    return S[b:].norm() / math.sqrt((m - b) * (n - b))


def pattern_by_median(L, S, n, q):
    """Half of the entries are zero: their spread tells the noise, without singular values."""
    entries = (L @ q).abs()
    small = entries.sort().values[: len(entries) // 3]
    return entries < 6 * small.median()


def match_with_a_counter(states):
    i = 0
    while i < len(states) and not states[i].sparsity_match >= 1 - 1e-12:
        i += 1
    return states[i].samples_drawn if i < len(states) else -1


def first_full_pool(states):
    full = [state.samples_drawn for state in states if state.pool.directions.shape[1] >= state.batch_size]
    return full[0] if full else -1


def twins_by_rank(L, Q):
    found = []
    for i in range(Q.shape[1]):
        entries = (L @ Q[:, i]).abs()
        if matrix_rank(L[entries < 1e-4 * entries.max()], rtol=1e-4) < L.shape[1] - 1:
            found.append(i)
    return found


def twins_by_pairs(L, Q):
    """Two directions with the same zeros."""
    zero = ((E := (L @ Q).abs()) < 1e-5 * E.amax(dim=0)).T
    return [
        i
        for i in range(len(zero))
        if any(i != k and bool((zero[i] == zero[k]).all()) for k in range(len(zero)))
    ]


def needed_for(p, risk):
    """Search by trying powers of two and closing in."""
    if min(p) == 0:
        return math.inf
    n, step = 0, 1
    while missing(p, n + step) > risk:
        step *= 2
    while step:
        if missing(p, n + step) > risk:
            n += step
        step //= 2
    return n + 1


def missing(p, n):
    return -math.expm1(sum(math.log(-math.expm1(n * math.log1p(-x))) if n else -math.inf for x in p))


def needed_by_steps(zeros, width, risk):
    return needed_for([math.comb(k, len(zeros) - 1) / math.comb(width, len(zeros) - 1) for k in zeros], risk)


def needed_for_the_rarest(zeros, width, risk):
    return needed_for([math.comb(min(zeros), len(zeros) - 1) / math.comb(width, len(zeros) - 1)], risk)


def needed_for_coins(zeros, width, risk):
    return needed_for([2.0 ** (1 - len(zeros)) for _ in zeros], risk)


def needed_by_the_bound(zeros, width, risk):
    rows = len(zeros) - 1
    least = min(math.comb(k, rows) for k in zeros) / math.comb(width, rows)
    return math.ceil(math.log((rows + 1) / risk) / least) if least else math.inf


def needed_with_a_row_more(zeros, width, risk):
    return needed_for([math.comb(k, len(zeros)) / math.comb(width, len(zeros)) for k in zeros], risk)


def sample_in_32_bits(M, beta, R, B, starts):
    return EXERCISES["06/one_sample"].reference(M, beta, R, B, starts).float()


def sample_of_all_starts(M, beta, R, B, starts):
    columns = starts.split(1, dim=1)
    return torch.stack([EXERCISES["06/one_sample"].reference(M, beta, R, B, one) for one in columns])


def reach_by_groups(rows, seconds, least):
    groups = {}
    for row in rows:
        groups.setdefault(row["b"], []).append(row["exact"] * (row["seconds"] <= seconds))
    best = 0
    for b, exact in sorted(groups.items()):
        if metrics.share_interval(int(sum(exact)), b * len(exact))[0] < least:
            return best
        best = b
    return best


def reach_by_wilson(rows, seconds, least):
    """The formula of the interval by hand."""
    best = 0
    for b in sorted({row["b"] for row in rows}):
        runs = [row for row in rows if row["b"] == b]
        n, z = b * len(runs), 1.959963984540054
        p = sum(row["exact"] for row in runs if row["seconds"] <= seconds) / n
        low = (p + z * z / (2 * n) - z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))) / (1 + z * z / n)
        if low < least:
            break
        best = b
    return best


def behind_in_lists(model, gradients):
    W, bias = model[0].weight.detach(), model[0].bias.detach()
    rows = []
    for y in spear_core.invert(model, gradients).inputs:
        on = y > 1e-3 * y.max()
        if on.sum() >= W.shape[1]:
            rows.append(pinv(W[on].double()) @ (y[on] - bias[on]).double())
    return rows if rows else torch.empty(0, W.shape[1])


def judged_with(**changes):
    return lambda: {**EXERCISES["08/judged"].reference(), **changes}


def direction_by_solving(rows):
    q = torch.cat([solve(rows[:, :-1], -rows[:, -1]), torch.ones(1, dtype=rows.dtype)])
    return q / q.norm()


def direction_not_normalised(rows):
    return torch.cat([solve(rows[:, :-1], -rows[:, -1]), torch.ones(1, dtype=rows.dtype)])


def direction_by_projection(rows):
    start = torch.ones(rows.shape[1], dtype=rows.dtype)
    rest = start - pinv(rows) @ (rows @ start)
    return rest / rest.norm()


def rejected_in_a_loop(units, threshold):
    total = 0.0
    k = 0
    while k < threshold * units:
        total += math.comb(units, k) * 0.5**units
        k += 1
    return total


def rejected_by_convolution(units, threshold):
    chances = np.array([1.0])
    for _ in range(units):
        chances = np.convolve(chances, [0.5, 0.5])
    return chances[np.arange(units + 1) < threshold * units].sum()


def match_in_loops(D, Z):
    same = 0
    for i in range(D.shape[0]):
        for j in range(D.shape[1]):
            same += (D[i, j].item() == 0) is (Z[i, j].item() <= 0)
    return same / (D.shape[0] * D.shape[1])


def missing_in_a_loop(hits, draws):
    all_met = 1.0
    for p in hits:
        all_met *= 1 - (1 - p) ** draws
    return 1 - all_met


def clip_in_a_loop(grads, norm):
    total = torch.zeros_like(grads[0])
    for grad in grads:
        total += grad * min(1.0, norm / grad.norm().item())
    return total / len(grads)


def clip_by_where(grads, norm):
    lengths = grads.norm(dim=1, keepdim=True)
    return torch.where(lengths > norm, grads / lengths * norm, grads).mean(0)


def clip_in_place(grads, norm):
    for i in range(len(grads)):
        grads[i] *= min(1, norm / grads[i].norm())
    return grads.mean(0)


def free_by_svd(M, R2, slope):
    A = torch.hstack([torch.diag(slope) @ M, -R2.T])
    S = svdvals(A)
    return A.shape[1] - int((1e-9 * S[0] < S).sum())


def free_by_null_space(M, R2, slope):
    return scipy.linalg.null_space(np.hstack([(slope[:, None] * M).numpy(), -R2.T.numpy()])).shape[1]


# fmt: off
# ---------------------------------------------------------------- 00
WHOSE = [
    (RIGHT, lambda found, truth: torch.cdist(found, truth).argmin(dim=1)),
    (RIGHT, lambda found, truth: (found[:, None] - truth[None]).norm(dim=2).argmin(1)),
    (RIGHT, lambda found, truth: (found[:, None] - truth).abs().sum(-1).min(dim=1).indices.tolist()),
    (RIGHT, lambda found, truth: np.argmin(scipy.spatial.distance.cdist(found, truth), axis=1)),
    (RIGHT, lambda found, truth: torch.stack([(truth - row).norm(dim=1).argmin() for row in found])),
    (RIGHT, whose_in_loops),
    ("the other way round", lambda found, truth: torch.cdist(found, truth).argmin(dim=0)),
    ("resembles least", lambda found, truth: torch.cdist(found, truth).argmax(dim=1)),
    ("Those are the distances", lambda found, truth: torch.cdist(found, truth).amin(dim=1)),
    ("off by one", lambda found, truth: torch.cdist(found, truth).argmin(dim=1) + 1),
    ("must be (5,), yours is (5, 5)", lambda found, truth: torch.cdist(found, truth)),
    ("must be (5,), yours is ()", lambda found, truth: torch.cdist(found, truth).argmin()),
    ("Right in", lambda found, truth: torch.arange(len(found)).roll(2)),
]
MEMBERS = [
    (RIGHT, members_by_distance),
    ("never near this client", lambda model, gradients, b, candidates: [True] * len(candidates)),
    ("1 of 4 entries", lambda model, gradients, b, candidates: [False] * len(candidates)),
    (RIGHT, members_in_loops),
    ("all rows, certified or not", members_of_all_rows),
    ("`certified_rows` is enough", members_if_all_is_certified),
    ("whoever is not among them", members_without_a_no),
    ("yours is ()", lambda *given: members_if_all_is_certified(*given)[0]),
    ("way through the function", lambda *given: members_in_loops(*given) if attacked(*given[:3]).certified else None),
]

# ---------------------------------------------------------------- 01
COUNT = [
    (RIGHT, count_by_gap),
    (RIGHT, count_by_logarithms),
    (RIGHT, count_by_dtype),
    (RIGHT, count_in_a_loop),
    (RIGHT, lambda G: float(count_by_gap(G))),
    (RIGHT, lambda G: torch.tensor(count_by_gap(G))),
    ("takes the rounding of 32-bit numbers for rank", lambda G: matrix_rank(G.double())),
    ("doesn't handle types", lambda G: matrix_rank(G)),
    ("float16 is unsupported", lambda G: np.linalg.matrix_rank(G.numpy())),
    ("16-bit numbers, rounding lies above", lambda G: matrix_rank(G.double(), rtol=1e-6)),
    ("a layer of width 3”", lambda G: (S := svdvals(G.double())).gt(torch.finfo(G.dtype).eps * S[0]).sum()),
    ("there is no cliff", lambda G: count_by_gap(G) or G.shape[0]),
    ("how many units are active", lambda G: int((G.abs().sum(dim=1) > 0).sum())),
    ("all of them are counted", lambda G: len(svdvals(G.double()).nonzero())),
    ("the loss times a million", lambda G: int((svdvals(G.double()) > 1e-5).sum())),
    ("the loss times a million", lambda G: int((svdvals(G.double()) > 1e-4).sum())),
    ("depends on the scale of the loss", lambda G: int((svdvals(G.double()) > 1e-3).sum())),
    ("A hundredth of the largest", lambda G: int((S := svdvals(G.double())).gt(0.01 * S[0]).sum())),
    ("A hundredth of the largest", lambda G: int((S := svdvals(G.double())).gt(0.05 * S[0]).sum())),
    ("large *ratio* of two neighbours", lambda G: int((-svdvals(G.double()).diff()).argmax()) + 1),
    ("silent for all samples", lambda G: int(((S := svdvals(G.double()))[:-1] / S[1:]).argmax()) + 1),
    ("number of columns", lambda G: G.shape[1]),
    ("width m of the layer", lambda G: G.shape[0]),
    ("too large", lambda G: G.numel()),
    ("off by one", lambda G: count_by_gap(G) - 1),
    ("In the others: yours is off by one", lambda G: count_by_gap(G) and count_by_gap(G) - 1),
    ("square of what is wanted", lambda G: count_by_gap(G) ** 2),
    ("same in every case", lambda G: 4),
    ("one number is wanted", lambda G: svdvals(G.double())),
    ("of type str", lambda G: str(count_by_gap(G))),
]
MIXING = [
    (RIGHT, lambda D: D / D.sum(dim=1, keepdim=True)),
    (RIGHT, lambda D: D / D.sum(1)[:, None]),
    (RIGHT, lambda D: (D.T / D.T.sum(0)).T),
    (RIGHT, lambda D: torch.stack([row / row.sum() for row in D])),
    (RIGHT, lambda D: [[float(x / row.sum()) for x in row] for row in D]),
    (RIGHT, lambda D: D.numpy() / D.numpy().sum(axis=1, keepdims=True)),
    (RIGHT, lambda D: torch.einsum("mb,m->mb", D, 1 / D.sum(1))),
    ("*columns* add up to one", lambda D: D / D.sum(dim=0, keepdim=True)),
    ("Shares may be negative", lambda D: F.normalize(D.abs(), p=1, dim=1)),
    ("not of their exponentials", lambda D: D.softmax(dim=-1)),
    ("upside down", lambda D: D.sum(dim=1, keepdim=True) / D),
    ("times `output_grads.shape[1]`", lambda D: D / D.mean(dim=1, keepdim=True)),
    ("signs got lost", lambda D: (D / D.sum(dim=1, keepdim=True)).abs()),
    ("it is transposed, and otherwise right", lambda D: D.T / D.sum(1)),
    ("must be (5, 2), yours is (5,)", lambda D: D.sum(1)),
    ("RuntimeError", lambda D: D / D.sum(1)),
]
OTHER = [
    (RIGHT, lambda L, Q, other: lstsq(other, L @ Q).solution),
    (RIGHT, lambda L, Q, other: pinv(other) @ L @ Q),
    (RIGHT, lambda L, Q, other: solve(other.T @ other, other.T @ (L @ Q))),
    (RIGHT, lambda L, Q, other: solve(lstsq(L, other).solution, Q)),
    (RIGHT, lambda L, Q, other: np.linalg.lstsq(other.numpy(), (L @ Q).numpy(), rcond=None)[0]),
    (RIGHT, lambda L, Q, other: torch.stack([lstsq(other, (L @ q)[:, None]).solution[:, 0] for q in Q.T], dim=1)),
    ("belongs to its split", lambda L, Q, other: Q.clone()),
    ("the same for both servers", lambda L, Q, other: L @ Q),
    ("the other way round", lambda L, Q, other: pinv(L) @ other @ Q),
    ("only where its columns are orthonormal", lambda L, Q, other: other.T @ L @ Q),
    ("$Q$ is missing", lambda L, Q, other: pinv(other) @ L),
    ("makes the photographs", lambda L, Q, other: torch.linalg.inv(lstsq(other, L @ Q).solution)),
    ("the transpose of what is wanted", lambda L, Q, other: lstsq(other, L @ Q).solution.T),
    ("Yours is the negative", lambda L, Q, other: -lstsq(other, L @ Q).solution),
]
BATCH = [
    (RIGHT, lambda R, Q: solve(Q, R)),
    (RIGHT, lambda R, Q: torch.linalg.inv(Q) @ R),
    (RIGHT, lambda R, Q: Q.inverse().mm(R)),
    (RIGHT, lambda R, Q: lstsq(Q, R).solution),
    (RIGHT, lambda R, Q: pinv(Q) @ R),
    (RIGHT, lambda R, Q: np.linalg.solve(Q.numpy(), R.numpy())),
    (RIGHT, lambda R, Q: solve(Q, R).tolist()),
    (RIGHT, lambda R, Q: solve(Q.float(), R.float())),
    (RIGHT, lambda R, Q: list(solve(Q, R))),
    (RIGHT, lambda R, Q: solve(Q, R).requires_grad_()),
    (RIGHT, lambda R, Q: torch.linalg.lu_solve(*torch.linalg.lu_factor(Q), R)),
    ("That is Q R", lambda R, Q: Q @ R),
    ("only if its columns are orthonormal", lambda R, Q: Q.T @ R),
    ("That undoes Qᵀ", lambda R, Q: torch.linalg.inv(Q).T @ R),
    ("one sample a column", lambda R, Q: solve(Q, R).T),
    ("R mixes the samples", lambda R, Q: R),
    ("negative of what is wanted", lambda R, Q: solve(-Q, R)),
    ("2 times what is wanted", lambda R, Q: 2 * solve(Q, R)),
    ("divided by `rows.shape[0]`", lambda R, Q: solve(Q, R) / len(Q)),
    ("multiple of what is wanted", lambda R, Q: solve(Q, R) / solve(Q, R).norm() * 3),
    ("opposite order", lambda R, Q: solve(Q, R).flip(0)),
    ("in another order", lambda R, Q: solve(Q, R).sort(dim=0).values),
    ("digits only", lambda R, Q: solve(Q.float(), R.float()).double()),
    ("digits only", lambda R, Q: solve(Q, R).round(decimals=4)),
    ("signs got lost", lambda R, Q: solve(Q, R).abs()),
    ("the right numbers, arranged otherwise", lambda R, Q: solve(Q, R).flatten()),
    ("must be (3, 7), yours is (7,)", lambda R, Q: solve(Q, R)[0]),
    ("not a finite number", lambda R, Q: R / 0),
    ("LinAlgError", lambda R, Q: solve(Q * 0, R)),
    ("must be batches of square matrices", lambda R, Q: solve(R, Q)),
    ("32 and 64 bits do not mix", lambda R, Q: solve(Q.float(), R)),
]

# ---------------------------------------------------------------- 02
DIRECTION = [
    (RIGHT, lambda rows: svd(rows).Vh[-1]),
    (RIGHT, lambda rows: -svd(rows).Vh[-1]),
    (RIGHT, lambda rows: svd(rows.float()).Vh[-1]),
    (RIGHT, lambda rows: svd(rows).Vh[-1].tolist()),
    (RIGHT, lambda rows: svd(rows).Vh[-1].float().tolist()),
    (RIGHT, lambda rows: np.linalg.svd(rows.numpy())[2][-1]),
    (RIGHT, lambda rows: np.linalg.svd(rows.numpy().astype(np.float32))[2][-1]),
    (RIGHT, lambda rows: tuple(svd(rows).Vh[-1])),
    (RIGHT, lambda rows: svd(rows.T, full_matrices=True).U[:, -1]),
    (RIGHT, lambda rows: eigh(rows.T @ rows).eigenvectors[:, 0]),
    (RIGHT, lambda rows: qr(rows.T, mode="complete").Q[:, -1]),
    (RIGHT, lambda rows: scipy.linalg.null_space(rows.numpy())[:, 0]),
    (RIGHT, direction_by_solving),
    (RIGHT, direction_by_projection),
    ("in which the rows say most", lambda rows: svd(rows).Vh[0]),
    ("in which the rows say most", lambda rows: -svd(rows).Vh[0]),
    ("full_matrices=True", lambda rows: svd(rows, full_matrices=False).Vh[-1]),
    ("a column of Vh", lambda rows: svd(rows).Vh[:, -1]),
    ("matrix of one row", lambda rows: svd(rows).Vh[-1:]),
    ("is it normalised?", direction_not_normalised),
    ("2 times", lambda rows: 2 * svd(rows).Vh[-1]),
    ("signs got lost", lambda rows: svd(rows).Vh[-1].abs()),
    ("must be (2,), yours is (2, 2)", lambda rows: svd(rows).Vh),
    ("arranged otherwise", lambda rows: scipy.linalg.null_space(rows.numpy())),
]

SHARED = [
    (RIGHT, lambda D: (D == 0).double() @ (D == 0).double().T / D.shape[1]),
    (RIGHT, lambda D: ((D == 0)[:, None] & (D == 0)[None]).float().mean(dim=2)),
    (RIGHT, lambda D: torch.einsum("im,km->ik", (D == 0).float(), (D == 0).float()) / D.shape[1]),
    (RIGHT, lambda D: np.inner(D.numpy() == 0, (D.numpy() == 0).astype(float)) / D.shape[1]),
    (RIGHT, shared_in_loops),
    ("numbers of units", lambda D: (D == 0).double() @ (D == 0).double().T),
    ("active for both", lambda D: ((D == 0)[:, None] == (D == 0)[None]).double().mean(dim=2)),
    ("nothing to do with each other", lambda D: (p := (D == 0).double().mean(1))[:, None] * p),
    ("units over the samples", lambda D: (D == 0).double().T @ (D == 0).double() / len(D)),
    ("100 times", lambda D: 100 * (D == 0).double() @ (D == 0).double().T / D.shape[1]),
    ("`output_grads.shape[1]`", lambda D: (D == 0).double() @ (D == 0).double().T / D.shape[1] ** 2),
    ("`output_grads.shape[0]`", lambda D: (D == 0).double() @ (D == 0).double().T / D.numel() / len(D)),
    ("not implemented for 'Bool'", lambda D: (D == 0) @ (D == 0).T / D.shape[1]),
]
TWO = [
    (RIGHT, two_by_unique_lines),
    (RIGHT, two_with_signs_turned),
    (RIGHT, lambda L: EXERCISES["02/two_directions"].reference(L).float()),
    (RIGHT, lambda L: EXERCISES["02/two_directions"].reference(L).tolist()),
    ("2 times what is wanted", two_not_normalised),
    ("axes of the split", lambda L: torch.eye(2).double()),
    ("must be (2, 2), yours is (2,)", lambda L: svd(L).Vh[-1]),
]

# ---------------------------------------------------------------- 03
REJECTION = [
    (RIGHT, lambda m, t: sum(math.comb(m, k) for k in range(m + 1) if k < t * m) / 2**m),
    (RIGHT, lambda m, t: sum(math.comb(m, k) for k in range(math.ceil(t * m))) / 2**m),
    (RIGHT, lambda m, t: scipy.stats.binom.cdf(math.ceil(t * m) - 1, m, 0.5)),
    (RIGHT, lambda m, t: float(np.float32(sum(math.comb(m, k) for k in range(math.ceil(t * m))) / 2**m))),
    (RIGHT, lambda m, t: np.sum([scipy.stats.binom.pmf(k, m, 0.5) for k in range(m) if k < t * m])),
    (RIGHT, rejected_in_a_loop),
    (RIGHT, rejected_by_convolution),
    ("exactly τ m zeros is kept", lambda m, t: scipy.stats.binom.cdf(t * m, m, 0.5)),
    ("exactly τ m zeros is kept", lambda m, t: sum(math.comb(m, k) for k in range(int(t * m) + 1)) / 2**m),
    ("ends one too early", lambda m, t: sum(math.comb(m, k) for k in range(int(t * m))) / 2**m),
    ("begin with k = 0", lambda m, t: sum(math.comb(m, k) for k in range(1, math.ceil(t * m))) / 2**m),
    ("probability ½, whatever τ is", lambda m, t: scipy.stats.binom.cdf(math.ceil(t * m) - 1, m, t)),
    ("probability of being kept", lambda m, t: scipy.stats.binom.sf(math.ceil(t * m) - 1, m, 0.5)),
    ("one number of zeros", lambda m, t: scipy.stats.binom.pmf(int(t * m), m, 0.5)),
    ("ways, not their probability", lambda m, t: sum(math.comb(m, k) for k in range(math.ceil(t * m)))),
    ("bell curve", lambda m, t: scipy.stats.norm.cdf(t * m, m / 2, math.sqrt(m) / 2)),
    ("2 times", lambda m, t: sum(math.comb(m, k) for k in range(math.ceil(t * m))) / 2 ** (m - 1)),
    ("wrong for “m = 20, τ = 0.25”, “m = 30", lambda m, t: t),
    ("ValueError", lambda m, t: math.comb(m, -1)),
]
PATTERN = [
    (RIGHT, lambda L, S, n, q: (L @ q).abs() < 3 * noise_of(L, S, n) * (q / S[: len(q)]).norm()),
    (RIGHT, lambda L, S, n, q: (L @ q).abs() < 4 * noise_of(L, S, n) * (q / S[: len(q)]).norm()),
    (RIGHT, lambda L, S, n, q: ((L @ q).abs() < 3.5 * noise_of(L, S, n) * (q / S[: len(q)]).norm()).numpy()),
    (RIGHT, lambda L, S, n, q: ((L @ q).abs() < 3.5 * noise_of(L, S, n) * (q / S[: len(q)]).norm()).tolist()),
    ("right for 32-bit rounding only", lambda L, S, n, q: (E := (L @ q).abs()) < 1e-5 * E.max()),
    ("fixed share of the largest", lambda L, S, n, q: (E := (L @ q).abs()) < 1e-2 * E.max()),
    ("sums up a whole matrix", lambda L, S, n, q: (L @ q).abs() < S[len(q)]),
    ("in one direction", lambda L, S, n, q: (L @ q).abs() < S[len(q)] * (q / S[: len(q)]).norm()),
    ("leaves out a third", lambda L, S, n, q: (L @ q).abs() < noise_of(L, S, n) * (q / S[: len(q)]).norm()),
    ("small singular values amplify", lambda L, S, n, q: (L @ q).abs() < 3.5 * noise_of(L, S, n)),
    ("one minus", lambda L, S, n, q: (L @ q).abs() >= 3.5 * noise_of(L, S, n) * (q / S[: len(q)]).norm()),
]
# ---------------------------------------------------------------- 04
MATCH = [
    (RIGHT, lambda D, Z: ((D == 0) == (Z <= 0)).double().mean().item()),
    (RIGHT, lambda D, Z: ((D == 0) == (Z <= 0)).float().mean()),
    (RIGHT, lambda D, Z: ((D != 0) == (Z > 0)).float().mean().item()),
    (RIGHT, lambda D, Z: (~((D == 0) ^ (Z <= 0))).float().mean().item()),
    (RIGHT, lambda D, Z: np.mean((D.numpy() == 0) == (Z.numpy() <= 0))),
    (RIGHT, lambda D, Z: torch.eq(D == 0, Z <= 0).sum() / D.numel()),
    (RIGHT, lambda D, Z: 1 - ((D == 0) != (Z <= 0)).double().mean()),
    (RIGHT, match_in_loops),
    ("share of entries that disagree", lambda D, Z: ((D == 0) != (Z <= 0)).double().mean()),
    ("not with &", lambda D, Z: ((D == 0) & (Z <= 0)).double().mean()),
    ("not Z = 0", lambda D, Z: ((D == 0) == (Z == 0)).double().mean()),
    ("exactly 0 is silent, too", lambda D, Z: ((D == 0) == (Z < 0)).double().mean()),
    ("direction of the sign", lambda D, Z: ((D == 0) == (Z >= 0)).double().mean()),
    ("entry by entry", lambda D, Z: ((D == 0).double().mean() + (Z <= 0).double().mean()) / 2),
    ("one share for each sample", lambda D, Z: ((D == 0) == (Z <= 0)).double().mean(dim=1)),
    ("number of entries that agree", lambda D, Z: ((D == 0) == (Z <= 0)).sum()),
    ("only where ∂L/∂Z is zero", lambda D, Z: (Z[D == 0] <= 0).double().mean()),
    ("100 times", lambda D, Z: 100 * ((D == 0) == (Z <= 0)).double().mean()),
    ("The mean of yours is right", lambda D, Z: (D == 0) == (Z <= 0)),
]
FIRST = [
    (RIGHT, match_with_a_counter),
    (RIGHT, lambda states: next((s.samples_drawn for s in states if s.sparsity_match == 1), -1)),
    (RIGHT, lambda states: min((s.samples_drawn for s in states if s.sparsity_match == 1), default=-1)),
    ("where the attack ended", lambda states: max(s.samples_drawn for s in states)),
    ("may hold mixtures", first_full_pool),
    ("the number of the state", lambda states: next((i for i, s in enumerate(states) if s.sparsity_match == 1), -1)),
    ("whatever its", lambda states: next((s.samples_drawn for s in states if s.reconstruction is not None), -1)),
    ("off by one", lambda states: next((s.samples_drawn + 1 for s in states if s.sparsity_match == 1), 0)),
    ("AttributeError", lambda states: states[-1].draws),
]
TWINS = [
    (RIGHT, twins_by_rank),
    (RIGHT, twins_by_pairs),
    (RIGHT, lambda L, Q: tuple(twins_by_rank(L, Q))),
    ("the ones that are pinned down", lambda L, Q: [i for i in range(Q.shape[1]) if i not in twins_by_rank(L, Q)]),
    ("b − 1 independent rows leave one", lambda L, Q: [*range(Q.shape[1])]),
    ("Rounding fills up the rank", lambda L, Q: []),
    ("off by one", lambda L, Q: [i + 1 for i in twins_by_rank(L, Q)]),
]
UNSUPPORTED = [
    (RIGHT, lambda number: number in {3, 4, 6, 8}),
    (RIGHT, lambda number: [False, False, True, True, False, True, False, True][number - 1]),
    (RIGHT, lambda number: np.bool_(number in (3, 4, 6, 8))),
    (RIGHT, lambda number: int(number in (3, 4, 6, 8))),
    ("Look at 3 again", lambda number: number in {4, 6, 8}),
    ("Look at 5 again", lambda number: number in {3, 4, 5, 6, 8}),
    ("wrong for “sentence 4”, “sentence 6”", lambda number: number in {3, 8}),
    ("one minus", lambda number: number not in {3, 4, 6, 8}),
    ("same in every case", lambda number: True),
    ("of type str", lambda number: "yes" if number in {3, 4, 6, 8} else "no"),
]
SPEAR = [
    (RIGHT, spear_of_many_draws),
    (RIGHT, spear_in_numpy),
    ("mixtures of the samples", lambda G, g, W, beta: svd(G.double(), full_matrices=False).Vh[: matrix_rank(G)]),
    ("at the wrong lengths", spear_unscaled),
    ("division of notebook 01", lambda G, g, W, beta: G / torch.where(g == 0, 1, g)[:, None]),
    ("it is transposed", lambda G, g, W, beta: spear_of_many_draws(G, g, W, beta).T),
    ("yours is (2, 3072)", lambda G, g, W, beta: spear_of_many_draws(G, g, W, beta)[:-1]),
]
# ---------------------------------------------------------------- 05
MISSING = [
    (RIGHT, missing_in_a_loop),
    (RIGHT, lambda hits, n: 1 - np.prod([1 - (1 - p) ** n for p in hits])),
    (RIGHT, lambda hits, n: 1 - torch.prod(1 - (1 - torch.tensor(hits)) ** n)),
    (RIGHT, lambda hits, n: 1 - math.exp(sum(math.log(1 - (1 - p) ** n) for p in hits)) if n else 1.0),
    ("upper bound", lambda hits, n: sum((1 - p) ** n for p in hits)),
    ("all of them are missing", lambda hits, n: math.prod((1 - p) ** n for p in hits)),
    ("nothing is missing: the opposite", lambda hits, n: math.prod(1 - (1 - p) ** n for p in hits)),
    ("a mean hides them", lambda hits, n: 1 - (1 - (1 - np.mean(hits)) ** n) ** len(hits)),
    ("rarest direction only", lambda hits, n: max((1 - p) ** n for p in hits)),
    ("100 times", lambda hits, n: 100 * missing_in_a_loop(hits, n)),
    ("ValueError: math domain error", lambda hits, n: math.log(-n)),
]
NEEDED = [
    (RIGHT, needed_by_steps),
    (RIGHT, lambda zeros, m, risk: float(needed_by_steps(zeros, m, risk))),
    (RIGHT, lambda zeros, m, risk: np.ceil(needed_by_steps(zeros, m, risk))),
    ("limit $2^{-(b-1)}$", needed_for_coins),
    ("$b-1$ rows, not $b$", needed_with_a_row_more),
    ("is a bound", needed_by_the_bound),
    ("off by one", lambda zeros, m, risk: needed_by_steps(zeros, m, risk) - 1),
    ("rarest direction only", needed_for_the_rarest),
]

# ---------------------------------------------------------------- 06
FREE = [
    (RIGHT, free_by_svd),
    (RIGHT, free_by_null_space),
    (RIGHT, lambda M, R, s: 2 * M.shape[1] - matrix_rank(torch.cat([s[:, None] * M, R.T], dim=1))),
    (RIGHT, lambda M, R, s: 2 * len(R) - np.linalg.matrix_rank(np.hstack([s[:, None] * M, -R.T]))),
    ("number of independent equations", lambda M, R, s: matrix_rank(torch.cat([s[:, None] * M, -R.T], dim=1))),
    ("counts spare equations", lambda M, R, s: len(M) - matrix_rank(torch.cat([s[:, None] * M, -R.T], dim=1))),
    ("A silent unit passes on nothing", lambda M, R, s: 2 * len(R) - matrix_rank(torch.cat([M, -R.T], dim=1))),
    ("right-hand side has unknowns", lambda M, R, s: len(R) - matrix_rank(s[:, None] * M)),
    ("A silent unit passes on nothing", lambda M, R, s: max(0, 2 * len(R) - len(M))),
    ("same in every case", lambda M, R, s: 5),
    ("RuntimeError", lambda M, R, s: 2 * len(R) - matrix_rank(torch.cat([s * M, -R.T], dim=1))),
    ("TypeError", lambda M, R, s: 2 * len(R) - matrix_rank(M, R, s, -R.T)),
]
SAMPLE = [
    (RIGHT, sample_in_32_bits),
    (RIGHT, lambda *given: EXERCISES["06/one_sample"].reference(*given).tolist()),
    ("another length", lambda *given: 3 * EXERCISES["06/one_sample"].reference(*given)),
    ("A sample is wanted", sample_of_all_starts),
    ("It is no sample", lambda M, beta, R, B, starts: R[0]),
]

# ---------------------------------------------------------------- 07
PSNR = [
    (RIGHT, lambda t, g: 10 * torch.log10((t.max() - t.min()) ** 2 / ((t - g) ** 2).mean())),
    (RIGHT, lambda t, g: 20 * torch.log10((t.max() - t.min()) / ((t - g) ** 2).mean().sqrt())),
    (RIGHT, lambda t, g: 10 * math.log10((t.max() - t.min()).item() ** 2 / F.mse_loss(g, t).item())),
    (RIGHT, lambda t, g: 10 * np.log10(np.ptp(t.numpy()) ** 2 / np.mean((t.numpy() - g.numpy()) ** 2))),
    (RIGHT, lambda t, g: -10 * torch.log10(((t - g) / (t.max() - t.min())).square().mean())),
    (RIGHT, lambda t, g: np.float32(10 * torch.log10((t.max() - t.min()) ** 2 / ((t - g) ** 2).mean()))),
    ("range must be squared", lambda t, g: 10 * torch.log10((t.max() - t.min()) / ((t - g) ** 2).mean())),
    ("logarithm to base 10", lambda t, g: 10 * torch.log((t.max() - t.min()) ** 2 / ((t - g) ** 2).mean())),
    ("without the root", lambda t, g: 10 * torch.log10((t.max() - t.min()) ** 2 / ((t - g) ** 2).mean() ** 0.5)),
    ("larger number", lambda t, g: 10 * torch.log10(((t - g) ** 2).mean() / (t.max() - t.min()) ** 2)),
    ("between 0 and 1", lambda t, g: -10 * torch.log10(((t - g) ** 2).mean())),
    ("minus the smallest", lambda t, g: 10 * torch.log10(t.max() ** 2 / ((t - g) ** 2).mean())),
    ("set its own scale", lambda t, g: 10 * torch.log10((g.max() - g.min()) ** 2 / ((t - g) ** 2).mean())),
    ("mean over the pixels", lambda t, g: 10 * torch.log10((t.max() - t.min()) ** 2 / ((t - g) ** 2).sum())),
    ("Square the error", lambda t, g: 10 * torch.log10((t.max() - t.min()) ** 2 / (t - g).abs().mean())),
    ("Those are bels", lambda t, g: torch.log10((t.max() - t.min()) ** 2 / ((t - g) ** 2).mean())),
    ("That is the fraction", lambda t, g: (t.max() - t.min()) ** 2 / ((t - g) ** 2).mean()),
    ("2 times", lambda t, g: 20 * torch.log10((t.max() - t.min()) ** 2 / ((t - g) ** 2).mean())),
    ("one number is wanted", lambda t, g: 10 * torch.log10((t.max() - t.min()) ** 2 / (t - g) ** 2)),
]
REACH = [
    (RIGHT, reach_by_groups),
    (RIGHT, reach_by_wilson),
    (RIGHT, lambda rows, seconds, least: np.int64(reach_by_groups(rows, seconds, least))),
    ("Look at the clock", lambda rows, seconds, least: reach_by_groups(rows, math.inf, least)),
    ("stays in the denominator", lambda rows, s, low: reach_by_groups([r for r in rows if r["seconds"] <= s], s, low)),
    ("same in every case", lambda rows, seconds, least: 8),
    ("too large in every case", lambda rows, seconds, least: max(row["b"] for row in rows)),
]

# ---------------------------------------------------------------- 08
CLIP = [
    (RIGHT, lambda grads, norm: torch.renorm(grads, 2, 0, norm).mean(dim=0)),
    (RIGHT, lambda grads, norm: (grads * (norm / (grads.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1)).mean(0)),
    (RIGHT, lambda g, norm: torch.einsum("i,i...", (norm / (g.norm(dim=1) + 1e-6)).clamp(max=1), g) / len(g)),
    (RIGHT, lambda grads, norm: (grads / (grads.norm(dim=1, keepdim=True) / norm).clamp(min=1)).mean(0)),
    (RIGHT, lambda grads, norm: (F.normalize(grads) * grads.norm(dim=1, keepdim=True).clamp(max=norm)).mean(0)),
    (RIGHT, lambda grads, norm: np.mean([g * min(1, norm / np.linalg.norm(g)) for g in grads.numpy()], axis=0)),
    (RIGHT, lambda grads, norm: torch.stack([g * min(1, norm / g.norm()) for g in grads]).mean(0).float()),
    (RIGHT, clip_in_a_loop),
    (RIGHT, clip_by_where),
    ("writes into `grads`", clip_in_place),
    ("Clip every example first", lambda grads, norm: grads.mean(0) * min(1, norm / grads.mean(0).norm())),
    ("length of the whole table", lambda grads, norm: (grads * (norm / grads.norm()).clamp(max=1)).mean(0)),
    ("lengthens short rows", lambda g, norm: (g * (norm / g.norm(dim=1, keepdim=True)).clamp(min=1)).mean(0)),
    ("sum of magnitudes", lambda grads, norm: torch.renorm(grads, 1, 0, norm).mean(0)),
    ("rows as they are", lambda grads, norm: grads.mean(0)),
    ("stays as it is", lambda grads, norm: (F.normalize(grads) * norm).mean(0)),
    ("not each entry", lambda grads, norm: grads.clip(-norm, norm).mean(0)),
    ("not their sum", lambda grads, norm: torch.renorm(grads, 2, 0, norm).sum(0)),
    ("not thrown away", lambda grads, norm: torch.where(grads.norm(dim=1, keepdim=True) > norm, 0, grads).mean(0)),
    ("must be (6,), yours is (4, 6)", lambda grads, norm: torch.renorm(grads, 2, 0, norm)),
    ("must be (6,), yours is (4,)", lambda grads, norm: torch.renorm(grads, 2, 0, norm).mean(1)),
    ("RuntimeError", lambda grads, norm: grads * (norm / grads.norm(dim=1)).clamp(max=1)),
]
DEFEND = [
    (RIGHT, in_three_bits),
    (RIGHT, lambda grad, generator: largest_kept(grad, 0.2)),
    (RIGHT, lambda grad, generator: noised(grad, generator, 1.0)),
    ("still recognises", lambda grad, generator: grad / 1000),
    ("still recognises", lambda grad, generator: noised(grad, generator, 0.01)),
    ("training pays too much", lambda grad, generator: largest_kept(grad, 0.02)),
    ("learns next to nothing", lambda grad, generator: noised(torch.zeros_like(grad), generator, 0.0)),
    ("of the shape of grad", lambda grad, generator: grad.flatten()[:1]),
]
BEHIND = [
    (RIGHT, behind_in_lists),
    ("outputs $y$ of the first layer", lambda model, gradients: spear_core.invert(model, gradients).inputs),
    ("nothing comes back that is right", lambda model, gradients: torch.zeros(0, model[0].in_features)),
    ("right type and shape", lambda model, gradients: "x"),
]
JUDGED = [
    (RIGHT, judged_with()),
    ("A. Read the lines on clipping", judged_with(A="open")),
    ("E. The sentence names its attack", judged_with(E="refuted")),
    ("A. Read", judged_with(A="refuted", G="open")),
    ("one of 'supported'", judged_with(A=True)),
    ("a dictionary with the letters", lambda: ["supported"] * 7),
]
# fmt: on

ANSWERS: dict[str, list[Row]] = {
    "00/whose": WHOSE,
    "00/members": MEMBERS,
    "01/mixing": MIXING,
    "01/other_split": OTHER,
    "01/count_samples": COUNT,
    "02/shared_zeros": SHARED,
    "02/two_directions": TWO,
    "small/batch_from": BATCH,
    "small/direction_from": DIRECTION,
    "03/false_rejection": REJECTION,
    "03/zero_pattern": PATTERN,
    "04/sparsity_match": MATCH,
    "04/first_match": FIRST,
    "04/spear": SPEAR,
    "04/twins": TWINS,
    "04/unsupported": UNSUPPORTED,
    "05/still_missing": MISSING,
    "05/draws_needed": NEEDED,
    "06/free_directions": FREE,
    "06/one_sample": SAMPLE,
    "07/psnr": PSNR,
    "07/reach": REACH,
    "08/clip": CLIP,
    "08/defend": DEFEND,
    "08/behind": BEHIND,
    "08/judged": JUDGED,
}
SLOW = {name for name, exercise in EXERCISES.items() if exercise.seconds > 30}  # the answers attack or train
ROWS = [
    pytest.param(
        name,
        gets,
        answer,
        id=f"{name}-{number}-{gets[:28]}",
        marks=[pytest.mark.slow] if name in SLOW else [],
    )
    for name, rows in ANSWERS.items()
    for number, (gets, answer) in enumerate(rows, 1)
]


@pytest.mark.parametrize(("name", "gets", "answer"), ROWS)
def test_an_answer_gets_what_it_ought_to(name: str, gets: str, answer: Callable):
    verdict = EXERCISES[name].verdict(answer)
    noted = RIGHT if verdict.passed and gets != RIGHT and verdict.hint else ""
    assert gets in f"{verdict.words} {verdict.hint}", verdict
    assert verdict.passed == (RIGHT in (gets, noted)), verdict
    # what the folded hints say is there already
    assert verdict.hint not in EXERCISES[name].hints


def test_there_are_enough_of_them():
    assert len(ROWS) >= 130
    assert all(any(gets == RIGHT for gets, _ in rows) for rows in ANSWERS.values())
