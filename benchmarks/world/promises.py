"""What the package promises of every call, whatever it is given: hands off, typed errors, and in time."""

import random
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

import spear_core
from spear_core.attack.options import METHODS
from spear_core.errors import InputError

LATE, SLACK = 0.1, 0.5  # of a time limit, and seconds beside it


class Overrun(BaseException):
    """Raised inside a call that does not come back."""


@contextmanager
def ended_after(seconds: float) -> Iterator[None]:
    """Ends what is still running after so many CPU seconds, where the system can; by `Overrun`."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def end(*_: object) -> None:
        raise Overrun

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def stop_after(seconds: float) -> Callable[[object], None]:
    """For `progress=`: ends an attack after so many CPU seconds, whatever else the machine does meanwhile."""
    began = time.process_time()

    def look(state: object) -> None:
        if time.process_time() - began > seconds and getattr(state, "step", "") != "certificate":
            raise KeyboardInterrupt

    return look


class Clock:
    """Seconds since it was made: of the CPU or of the wall, whichever are fewer."""

    def __init__(self) -> None:
        self.began = time.process_time(), time.monotonic()

    @property
    def spent(self) -> float:
        return min(time.process_time() - self.began[0], time.monotonic() - self.began[1])

    def late(self, limit: float) -> bool:
        return self.spent > (1 + LATE) * limit + SLACK


def snapshot(model: nn.Module, gradients: Mapping[str, Tensor]) -> dict[str, object]:
    """All that a call must leave as it is, by name."""
    tensors = {**model.state_dict(), **{f"gradient of {name}": grad for name, grad in gradients.items()}}
    state: dict[str, object] = {name: bytes_of(tensor) for name, tensor in tensors.items()}
    for name, module in model.named_modules():
        state[f"training of {name!r}"] = module.training
        lists = {key: len(value) for key, value in vars(module).items() if isinstance(value, list)}
        hooks = {key: len(value) for key, value in vars(module).items() if key.endswith("_hooks")}
        state[f"lists and hooks of {name!r}"] = lists | hooks
    for name, parameter in model.named_parameters():
        state[f"grad of {name}"] = parameter.requires_grad, parameter.grad is None
    state["random state of torch"] = bytes_of(torch.get_rng_state())
    state["random state of Python"] = random.getstate()
    state["random state of NumPy"] = np.random.get_state()[1].tobytes()  # noqa: NPY002
    state["grad mode, dtype, threads"] = (
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_num_threads(),
    )
    return state


def changed(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Names of what is not as it was."""
    return [name for name in before if before[name] != after.get(name)]


def bytes_of(tensor: Tensor) -> bytes:
    """A tensor bit by bit, so that NaN equals NaN."""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def memory() -> float:
    """The most that this process has held so far, in MiB; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / 2**20 if sys.platform == "darwin" else most / 2**10


def unkept_by_diagnose(model: nn.Module, gradients: Mapping[str, Tensor]) -> list[str]:
    """Where what `diagnose` says is not what `invert` does, a text for each; refusals are no fault."""
    try:
        found = spear_core.diagnose(model, gradients)
    except InputError:
        return []
    texts = []
    refused = refusal(model, gradients, None, "auto")
    if (found.attacked is None) != bool(refused):
        texts.append(f"diagnose would attack {found.attacked!r}, invert says {refused or 'nothing'}")
    for layer in found.layers:
        for method in layer.methods if layer.name == found.attacked or layer is found.layers[-1] else ():
            named = method if method in METHODS else "auto"  # what only "auto" can choose
            if refused := refusal(model, gradients, layer.name, named):
                texts.append(f"diagnose lists {method} for {layer.name!r}, invert says {refused}")
    return texts


def refusal(model: nn.Module, gradients: Mapping[str, Tensor], layer: str | None, method: str) -> str:
    """Why a method will not do, in `invert`'s words; empty where it begins."""
    try:
        spear_core.invert(model, gradients, layer, method=method, time_limit=0)
    except InputError as error:
        return str(error)
    return ""
