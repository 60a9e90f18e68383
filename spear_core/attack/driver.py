"""The one loop that runs searches: until a batch is certified, the plan or the time is spent, or Ctrl-C."""

from collections.abc import Generator
from dataclasses import replace

from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from spear_core.attack.distributed import Team, shared
from spear_core.attack.plan import Plan
from spear_core.attack.suspects import suspects
from spear_core.search import Budget, State, Step, Target


def run(plan: Plan, target: Target, before: State, budget: Budget) -> Generator[State, None, State]:
    """Run the searches of a plan from step 1 on; what one leaves, the next one finishes. The last state is the result.

    An interruption (Ctrl-C) while a search is at work ends it: the method that was running makes the best of what it
    has found, and the best of all is the last state, flagged. So it is for whoever steps through the generator.
    """
    best = state = before
    ended, team = False, Team.gather(budget.generator) if plan.shared else None
    method, aim = plan.methods[0][0], target
    try:
        for chosen, b in plan.methods:
            method = chosen if team is None else shared(chosen, team)
            aim = target.holding(b)
            try:
                for state in method.search(aim, replace(best, batch_size=b), budget):
                    yield state
                    best = max(state, best, key=worth) if plan.believes(state, best) else best
            except LinAlgError as error:  # numbers that no factorisation can take: what is found stays
                best = replace(best, step=Step.CERTIFICATE)
                best = best.noted(f"{method.name} ended early: {str(error).splitlines()[0]}")
            ended = budget.late if team is None or team.alone else team.stopped
            if ended or plan.is_settled(state, best):
                break
    except KeyboardInterrupt:
        if state.step is not Step.CERTIFICATE:
            *_, state = method.conclude(aim, state, budget)
        best = max(state, best, key=worth).noted("interrupted")  # an earlier method may have proven more
        ended = True
    if not best.solved and (notes := [*filter(None, [plan.count.note]), *suspects(target, best)]):
        best = best.noted(*notes)
    if ended:
        best = replace(best, ended=True)
    if best is not state:
        yield best
    return best


def worth(state: State) -> tuple[int, float]:
    """How good a result is: proven rows first, then λ."""
    return state.proven, state.sparsity_match if state.reconstruction is not None else -1.0
