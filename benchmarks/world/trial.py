"""One world attacked and judged."""

import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

import spear_core
from spear_core import Inversion
from spear_core.errors import InputError
from spear_core.model.layers import read_problem

from . import losses, promises
from .client import Fed
from .draw import World, draw
from .truth import MERGED, TWINS, claims, false_rows, merged, missing

OUTCOMES = ("certified", "partly", "not", "refused")
OWN_FACTORS = ("a factor per kind", "clipped by tensor")  # tampering after which W and β do not go together
RESERVED = "rests on the bias gradient alone"  # of a note: the scale, where bias gradients carry a factor of their own
MOST_MEMORY = 1024.0  # MiB that one world may add to the most that was held so far


def run(seed: int, *, limit: float = 2.0, alike: bool = False, method: str | None = None) -> dict:
    """The world of a seed, attacked for at most so many CPU seconds: what came out, and what is wrong with it.

    The keys: `seed`; `words` of what the world is made of; `outcome`; how many `rows` are certified; `false` and
    `violations`, a text for each; `missing`, samples that a certified batch lacks; `wrong labels`; `seconds`; `MiB`,
    the most memory that this process has held so far.
    """
    world = draw(seed, alike=alike, method=method)
    row: dict = {
        "seed": seed,
        "words": world.words,
        "outcome": "refused",
        "rows": 0,
        "missing": 0,
        "assumed": 0,
    }
    row |= {"wrong labels": 0, "false": [], "violations": [], "message": ""}
    before, memory, clock = (
        promises.snapshot(world.model, world.gradients),
        promises.memory(),
        promises.Clock(),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = guarded(row, "the attack", lambda: attack(world, limit), 10 * limit + 10)
        row["seconds"] = round(clock.spent, 3)
        patience = None if world.patience is None else world.patience * limit
        if patience is not None and clock.late(patience):
            row["violations"].append(f"late: {row['seconds']} s of {patience} s")
        if isinstance(found, Inversion):
            judge(row, world, found)
        row["violations"] += guarded(row, "diagnose or its methods", lambda: kept(world), 20) or []
    row["violations"] += [
        f"changed: {name}"
        for name in promises.changed(before, promises.snapshot(world.model, world.gradients))
    ]
    row["MiB"] = round(promises.memory())
    if (grown := promises.memory() - memory) > MOST_MEMORY:
        row["violations"].append(f"memory: {grown:.0f} MiB more")
    return row


def attack(world: World, limit: float) -> Inversion:
    """As the world says; where it sets no time limit, ended after so many CPU seconds, as by Ctrl-C."""
    generator = torch.Generator().manual_seed(world.seed)
    ends = (
        {"progress": promises.stop_after(limit)}
        if world.patience is None
        else {"time_limit": world.patience * limit}
    )
    if not world.by_layer:
        return spear_core.invert(world.model, world.gradients, generator=generator, **ends, **world.options)
    name, layer = _first(world.model)
    grads = [world.gradients.get(f"{name}.{part}") for part in ("weight", "bias")]
    return spear_core.invert_layer(
        *grads, layer.weight, layer.bias, generator=generator, **ends, **world.options
    )


def judge(row: dict, world: World, found: Inversion) -> None:
    """What was certified, and whether it is true."""
    rows, b = int(claims(found)[0].sum()), found.batch_size
    row["outcome"] = "certified" if found.certified else "partly" if rows else "not"
    row["rows"] = rows
    row["message"] = "; ".join(found.notes)
    if found.certified and rows != b:
        row["violations"].append(f"certified, with {rows} of {b} rows")
    if not rows:
        return
    fed = truth(world, found)
    if fed is None:
        row["violations"].append("no truth: attacked a layer that the client did not use")
        return
    wrong = false_rows(found, fed)
    row["false"] = [text for text in wrong if not assumed(world, row, fed, text)]
    row["assumed"] = len(wrong) - len(row["false"])
    row["missing"] = missing(found, fed) if found.certified else 0
    targets = world.client.batch[1]
    if found.labels is None or len(targets) != len(fed.rows) or world.words["loss"] not in losses.CLASSES:
        return
    for sample, label in zip(found.inputs[found.certified_rows], found.labels[found.certified_rows].tolist()):
        distance = (fed.rows - sample).norm(dim=1)
        meant = targets[distance <= distance.min() * (1 + 1e-6)]
        row["wrong labels"] += label >= 0 and label not in meant.tolist()


def assumed(world: World, row: dict, fed: Fed, text: str) -> bool:
    """Whether a false row rests on an assumption of the certificate that this world breaks (docs/certificate.md).

    So it is of the scale where no later layer is known, as a note says, and bias gradients have a factor of their own;
    of a mean where the caller was wrong about b; and of one of twins, where every sample has as many.
    """
    if world.words["tampering"] in OWN_FACTORS and RESERVED in row["message"] and "times" in text:
        return True
    told = world.options.get("batch_size")
    if told is None and (text == TWINS or (text == MERGED and merged(fed))):
        return True
    return told not in (None, len(fed.rows)) and text.startswith(("a mean", "a mixture"))


def truth(world: World, found: Inversion) -> Fed | None:
    """What the attacked layer was fed with."""
    shape = found.output_grads.shape[1], found.inputs.shape[1]
    if world.by_layer:
        return world.client.fed(_first(world.model)[0], shape)
    layer = world.options.get("layer")
    attacked = read_problem(world.model, world.gradients, layer).attacked
    fed = world.client.fed(attacked.name, shape)
    return fed and replace(fed, relu=attacked.has_relu)


def kept(world: World) -> list[str]:
    """What `diagnose` promised and `invert` did not keep."""
    return promises.unkept_by_diagnose(world.model, world.gradients)


def guarded(row: dict, what: str, call: Callable[[], object], seconds: float) -> object:
    """A call's result; None after a typed error, and after any other one, or a hang, which are violations."""
    try:
        with promises.ended_after(seconds):
            return call()
    except InputError as error:
        row["message"] = row["message"] or str(error)
    except promises.Overrun:
        row["violations"].append(f"{what} hangs: over {seconds:.0f} CPU seconds")
    except Exception as error:
        place = next(
            f"{Path(frame.filename).name}:{frame.lineno}"
            for frame in reversed(traceback.extract_tb(error.__traceback__))
            if "spear_core" in frame.filename
        )
        first = (str(error).splitlines() or [""])[0][:120]
        row["violations"].append(f"untyped in {what}: {type(error).__name__} in {place}: {first}")
    return None


def _first(model: nn.Module) -> tuple[str, nn.Linear]:
    return next((name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear))
