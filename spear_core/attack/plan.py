"""Which method can work on a problem, and what stands in the way of the others."""

from collections.abc import Mapping

from spear_core.errors import InputError
from spear_core.model.activations import name_of
from spear_core.problem import Problem


def obstacles(problem: Problem) -> dict[str, str]:
    """What stands in the way of each method; an empty string where nothing does.

    Sampling and the half-spaces live on the exact zeros that ReLU leaves in ∂L/∂Z. Consistency needs none,
    but the gradient of the layer that takes σ(Z).

    Args:
        problem: the attacked layer and what follows it.
    """
    layer = problem.attacked
    if layer.activation is None:
        return dict.fromkeys(("sampling", "halfspace", "consistency"), "no elementwise activation follows")
    zeros = "" if layer.has_relu else f"it needs the zeros of ReLU, and {name_of(layer.activation)} follows"
    chain = (
        ""
        if len(problem.layers) > 1
        else "it needs the gradient of a linear layer right after the activation"
    )
    return {"sampling": zeros, "halfspace": zeros, "consistency": chain}


def check_method(method: str, problem: Problem) -> None:
    """Refuse a method that cannot work on a problem.

    Args:
        method: one of `spear_core.attack.options.METHODS`.
        problem: the attacked layer and what follows it.

    Raises:
        InputError: naming the methods that can, or that none can.
    """
    found = obstacles(problem)
    usable = [f'"{name}"' for name, obstacle in found.items() if not obstacle]
    if (method == "auto" and usable) or not found.get(method, "auto"):
        return
    where = f" on layer {problem.attacked.name!r}" if problem.attacked.name else ""
    if usable:
        raise InputError(
            f'method{where} must be "auto" or {" or ".join(usable)}, got "{method}": {found[method]}'
        )
    raise InputError(f"a method must apply{where}, got none that does: {in_words(found)}")


def in_words(found: Mapping[str, str]) -> str:
    """Obstacles as one line, methods with the same one together."""
    reasons = [reason for reason in dict.fromkeys(found.values()) if reason]
    return "; ".join(
        f"{', '.join(name for name in found if found[name] == reason)}: {reason}"
        for reason in reasons
        if reason
    )
