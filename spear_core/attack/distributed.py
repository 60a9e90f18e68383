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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from spear_core.consistency.search import SAME_SAMPLE
from spear_core.consistency.states import certified
from spear_core.errors import InputError
from spear_core.problem import Problem
from spear_core.search import State
from spear_core.spear.reconstruction import Forward, from_coefficients
from spear_core.spear.search import conclude
from spear_core.spear.selection import greedy
from spear_core.spear.sparsity import Pool, default_threshold, join

INTERVAL = {"sampling": 2**16, "halfspace": 1, "consistency": 1}  # starts between two exchanges, at least
GRACE = 60.0  # seconds past the deadline that a process may let the others wait
FAREWELL = 10.0  # seconds that an interrupted process waits for the others to take note
SEEDS = 2**48  # so that a seed is a whole number in float64
SEARCHING, OVER, LATE, INTERRUPTED = range(4)  # what a process says of itself
LOST = "another process of the group was lost; finished without it"

Search = Callable[[State, torch.Generator], Iterator[State]]


@dataclass
class Team:
    """This process among those that search for the same batch.

    Attributes:
        seed: drawn from the caller's generator, the same in every process.
        alone: whether the others were lost.
        stopped: whether some process is late or interrupted, so that no further method is tried.
    """

    seed: int
    alone: bool = False
    stopped: bool = False

    @classmethod
    def gather(cls, generator: torch.Generator) -> "Team | None":
        """The process group, or None where there is none."""
        if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return None
        return cls(int(torch.randint(SEEDS, (), generator=generator)))

    @property
    def own_generator(self) -> torch.Generator:
        """Another one in every process."""
        return torch.Generator().manual_seed(self.seed + dist.get_rank())

    def exchange(self, message: Tensor, seconds: float | None) -> Tensor | None:
        """The messages of all processes, stacked in the order of their ranks; None if one was lost.

        Args:
            message: of the same shape in every process.
            seconds: to wait at most; by default as long as the group was set up for.
        """
        device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else "cpu"
        mine = message.to(device)
        heard = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        complete = False
        try:
            work = dist.all_gather(heard, mine, async_op=True)
            if seconds is None:
                work.wait()
            else:
                work.wait(timedelta(seconds=seconds))
            complete = True
        except RuntimeError:  # a process died, or did not answer in time
            return None
        finally:
            self.alone = not complete  # after an interruption in here nobody knows who is where
        return torch.stack(heard).cpu()


def shared_states(
    search: Search, before: State, problem: Problem, team: Team, *, deadline: float = float("inf")
) -> Iterator[State]:
    """One search on all processes of a group.

    Args:
        search: the states of a search that starts from what a state holds, with a generator.
        before: what was found so far, the same in every process.
        problem: what the server sees.
        team: this process among the others.
        deadline: `time.monotonic()` after which to stop.

    Yields:
        States of this process's own search; the last one is the same in every process, the result of all.

    Raises:
        InputError: if the processes were given different generators.
    """
    generator = team.own_generator
    state, spent, exchanged, finished = before, 0, 0, False
    known, method = replace(before, samples_drawn=0), ""
    try:
        while not finished:
            for state in search(known, generator):
                method = method or state.method
                lost = (LOST,) if team.alone else ()
                state = replace(state, method=method, notes=(*state.notes, *lost))
                over = state.step == "certificate"
                due = state.samples_drawn - exchanged >= INTERVAL.get(state.step, INTERVAL["sampling"])
                if team.alone or not (over or due):
                    yield state
                    continue
                says = SEARCHING if not over else LATE if time.monotonic() >= deadline else OVER
                wait = None if deadline == float("inf") else max(0.0, deadline - time.monotonic()) + GRACE
                heard = team.exchange(_message(state, team.seed, says, spent), wait)
                if heard is None:
                    yield replace(state, notes=(*state.notes, LOST))
                    continue
                exchanged = state.samples_drawn
                together = _together(state, heard, team, problem)
                ends = bool((heard[:, 0, 1] != SEARCHING).any())
                if ends or _count(together) == state.batch_size:
                    *_, last = _concluded(together, problem, team.seed)
                    finished = ends or last.certified or _by_samples(state)
                    yield last
                if finished:
                    return
                if _count(together) > _count(state):
                    spent, exchanged = spent + state.samples_drawn, 0
                    known = replace(together, samples_drawn=0)
                    if not _by_samples(state):  # what an earlier method has proven
                        known = replace(
                            known, reconstruction=before.reconstruction, certificate=before.certificate
                        )
                    break
                yield state
            else:
                finished = True  # alone, or a search without a certificate
    finally:
        if not (finished or team.alone):  # interrupted: the others must not wait
            team.exchange(_message(state, team.seed, INTERRUPTED, spent), FAREWELL)


def _by_samples(state: State) -> bool:
    """Whether a search finds the samples themselves; otherwise it finds their directions."""
    return state.method == "consistency"


def _finds(state: State) -> Tensor:
    """What is found, one per row, shape (k, r), k ≤ b: coefficients c_i, or directions q_i."""
    if _by_samples(state):
        found = state.reconstruction
        return torch.zeros(0, state.low_rank.batch_size) if found is None else found.coefficients
    return state.pool.directions[:, list(state.chosen if state.certified else greedy(state.pool))].T


def _count(state: State) -> int:
    """How many samples are found and told apart."""
    return len(_finds(state)) if _by_samples(state) else int(state.pool.unique.sum())


def _message(state: State, seed: int, says: int, spent: int) -> Tensor:
    """A header (seed, what the process says, starts, finds), then the finds; shape (b + 1, ≥ 4), float64."""
    finds = _finds(state)
    message = torch.zeros(state.batch_size + 1, max(4, state.low_rank.batch_size), dtype=torch.float64)
    message[0, :4] = torch.tensor([seed, says, spent + state.samples_drawn, len(finds)])
    message[1 : len(finds) + 1, : state.low_rank.batch_size] = finds
    return message


def _together(state: State, heard: Tensor, team: Team, problem: Problem) -> State:
    """The state with what all processes have found, and nothing else of its own; notes who stopped."""
    if bool((heard[:, 0, 0] != team.seed).any()):
        raise InputError("generator must have the same seed in every process, got different ones")
    low_rank = state.low_rank
    finds = torch.cat([rows[1 : int(rows[0, 3]) + 1, : low_rank.batch_size] for rows in heard])
    finds = finds.to(low_rank.factor)
    notes: tuple[str, ...] = ()
    if bool((heard[:, 0, 1] == INTERRUPTED).any()):
        notes = ("stopped since a process of the group was interrupted",)
    elif bool((heard[:, 0, 1] == LATE).any()):
        notes = ("stopped at the time limit",)
    team.stopped = team.stopped or bool(notes)
    state = replace(
        state, samples_drawn=int(heard[:, 0, 2].sum()), notes=notes, reconstruction=None, certificate=None
    )
    if not _by_samples(state):
        pool = Pool.empty(low_rank.batch_size, finds.device)
        for direction in finds:
            pool = join(direction, low_rank, pool, default_threshold(low_rank))
        return replace(state, pool=pool)
    inputs = finds * low_rank.singular_values[: low_rank.batch_size]  # up to a rotation
    apart = torch.cdist(inputs, inputs, compute_mode="donot_use_mm_for_euclid_dist")
    first = ~(apart < SAME_SAMPLE * inputs.norm(dim=1)).tril(-1).any(dim=1)
    coefficients = finds[first][: state.batch_size]
    width = low_rank.batch_size if state.batch_size <= low_rank.batch_size else state.batch_size
    unknown = torch.full((width, len(coefficients)), torch.nan).to(finds)
    forward = Forward.of(low_rank, problem.attacked)
    return replace(state, reconstruction=from_coefficients(forward, coefficients, unknown))


def _concluded(state: State, problem: Problem, seed: int) -> Iterator[State]:
    """The certificate of what all have found, with the same random numbers everywhere."""
    generator = torch.Generator().manual_seed(seed)
    if _by_samples(state):
        yield certified(state, problem, generator=generator)
    else:
        yield from conclude(state, problem, generator=generator)
