"""One search on many processes: each tries its own random starts, and what one finds all know soon after.

Where a process group of `torch.distributed` is initialised, `spear_core.invert` does this by itself:

- the processes share the split of the gradient and draw from generators of their own, so that no start is
  tried twice;
- at intervals that are counted in starts, never in seconds, they gather what each has found. Whoever hears
  of something new goes on with it, which makes the rest a smaller problem;
- all stop together, as soon as the samples found are the whole batch, or one of them gives up, is late or is
  interrupted, and all make the same result of what was found.

The result depends only on the seed and the number of processes. A process that dies leaves the others to
finish alone.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor

from spear_core.errors import InputError
from spear_core.linalg import is_first
from spear_core.search import Budget, Method, State, Step, Target
from spear_core.spear.reconstruction import from_coefficients
from spear_core.spear.records import Pool
from spear_core.spear.selection import greedy
from spear_core.spear.sparsity import join
from spear_core.spear.zeros import default_threshold
from spear_core.tolerances import SAME_SAMPLE

GRACE = 60.0  # seconds past the deadline that a process may let the others wait
FAREWELL = 10.0  # seconds that an interrupted process waits for the others to take note
SEEDS = 2**48  # so that a seed is a whole number in float64
SEARCHING, OVER, LATE, INTERRUPTED = range(4)  # what a process says of itself
LOST = "another process of the group was lost; finished without it"


@dataclass
class Team:
    """This process among those that search for the same batch."""

    seed: int  # drawn from the caller's generator, the same in every process
    alone: bool = False  # whether the others were lost
    stopped: bool = False  # whether some process is late or interrupted, so that no further method is tried

    @classmethod
    def gather(cls, generator: torch.Generator | None) -> "Team | None":
        """The process group, or None where there is none."""
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return None
        return cls(int(torch.randint(SEEDS, (), generator=generator)))

    def exchange(self, message: Tensor, seconds: float | None) -> Tensor | None:
        """The messages of all processes, of one shape, stacked in the order of their ranks; None if one was lost.

        Waits for so many seconds at most, or as long as the group was set up for.
        """
        device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else "cpu"
        mine = message.to(device)
        heard = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        self.alone = True  # unless all answer; after an interruption in here nobody knows who is where
        try:
            work = dist.all_gather(heard, mine, async_op=True)
            if seconds is None:
                work.wait()
            else:
                work.wait(timedelta(seconds=seconds))
        except RuntimeError:  # a process died, or did not answer in time
            return None
        self.alone = False
        return torch.stack(heard).cpu()


def shared(method: Method, team: Team) -> Method:
    """A method that searches on all processes of a group, each from what a state holds.

    Its search yields the states of this process; the last one is the same in every process, the result of all. It
    raises `InputError` if the processes were given different generators.
    """
    return replace(method, search=partial(_search, method, team))


def _search(method: Method, team: Team, target: Target, before: State, budget: Budget) -> Iterator[State]:
    own = replace(budget, generator=torch.Generator().manual_seed(team.seed + dist.get_rank()))
    state, spent, exchanged, finished = before, 0, 0, False
    known, name = replace(before, samples_drawn=0), ""
    try:
        while not finished:  # from what is known, until more is
            for state in method.search(target, known, own):
                name = name or state.method
                state = replace(state, method=name).noted(*([LOST] if team.alone else []))
                # who has lost the others, or has nothing to tell yet, goes on
                over = state.step is Step.CERTIFICATE
                due = state.samples_drawn - exchanged >= method.exchange_every
                if team.alone or not (over or due):
                    yield state
                    continue
                says = SEARCHING if not over else LATE if budget.late else OVER
                heard = team.exchange(_message(method, state, team.seed, says, spent), _patience(budget))
                if heard is None:
                    yield state.noted(LOST)
                    continue
                # all have heard the same, and so decide the same
                exchanged = state.samples_drawn
                together = _together(method, target, before, state, heard, team)
                ends = bool((heard[:, 0, 1] != SEARCHING).any())
                if ends or _count(method, together) == target.batch_size:
                    same = replace(budget, generator=torch.Generator().manual_seed(team.seed))
                    *_, last = method.conclude(target, together, same)
                    finished = ends or last.solved or method.finds_samples
                    yield last
                if finished:
                    return
                if _count(method, together) > _count(method, state):
                    spent, exchanged = spent + state.samples_drawn, 0
                    known = replace(together, samples_drawn=0)
                    break
                yield state
            else:
                finished = True  # alone, or a search without a certificate
    finally:
        if not (finished or team.alone):  # interrupted: the others must not wait
            team.exchange(_message(method, state, team.seed, INTERRUPTED, spent), FAREWELL)


def _patience(budget: Budget) -> float | None:
    """Seconds to wait for the others."""
    return None if budget.deadline == float("inf") else max(0.0, budget.deadline - time.monotonic()) + GRACE


def _finds(method: Method, state: State) -> Tensor:
    """What is found, one per row, shape (k, r), k ≤ b: coefficients c_i, or directions q_i."""
    if method.finds_samples:
        found = state.reconstruction
        return torch.zeros(0, state.low_rank.batch_size) if found is None else found.coefficients
    return state.pool.directions[:, list(state.chosen if state.solved else greedy(state.pool))].T


def _count(method: Method, state: State) -> int:
    """How many samples are found and told apart."""
    return len(_finds(method, state)) if method.finds_samples else int(state.pool.unique.sum())


def _message(method: Method, state: State, seed: int, says: int, spent: int) -> Tensor:
    """A header (seed, what the process says, starts, finds), then the finds; shape (b + 1, ≥ 4), float64."""
    finds = _finds(method, state)
    message = torch.zeros(state.batch_size + 1, max(4, state.low_rank.batch_size), dtype=torch.float64)
    message[0, :4] = torch.tensor([seed, says, spent + state.samples_drawn, len(finds)])
    message[1 : len(finds) + 1, : state.low_rank.batch_size] = finds
    return message


def _together(
    method: Method, target: Target, before: State, state: State, heard: Tensor, team: Team
) -> State:
    """The state with what all processes have found, and nothing else of its own; notes who stopped."""
    if bool((heard[:, 0, 0] != team.seed).any()):
        raise InputError("generator must have the same seed in every process, got different ones")
    notes: tuple[str, ...] = ()
    if bool((heard[:, 0, 1] == INTERRUPTED).any()):
        notes = ("stopped since a process of the group was interrupted",)
    elif bool((heard[:, 0, 1] == LATE).any()):
        notes = ("stopped at the time limit",)
    team.stopped = team.stopped or bool(notes)
    state = replace(state, samples_drawn=int(heard[:, 0, 2].sum()), notes=notes)
    low_rank = target.low_rank
    finds = torch.cat([rows[1 : int(rows[0, 3]) + 1, : low_rank.batch_size] for rows in heard])
    finds = finds.to(low_rank.factor)
    if not method.finds_samples:  # a batch is chosen in the end; till then, that of an earlier method stands
        pool = Pool.empty(low_rank.batch_size, finds.device)
        pool = join(finds.T, low_rank, pool, default_threshold(low_rank))
        return replace(state, pool=pool, reconstruction=before.reconstruction, certificate=before.certificate)
    # one of those that are closer to each other than their own length allows
    inputs = finds * low_rank.singular_values[: low_rank.batch_size]  # up to a rotation
    apart = torch.cdist(inputs, inputs, compute_mode="donot_use_mm_for_euclid_dist")
    coefficients = finds[is_first(apart < SAME_SAMPLE * inputs.norm(dim=1))][: target.batch_size]
    width = target.batch_size if target.crowded else low_rank.batch_size
    unknown = torch.full((width, len(coefficients)), torch.nan).to(finds)
    found = from_coefficients(target.forward, coefficients, unknown)
    return replace(state, reconstruction=found, certificate=None)
