"""What the benchmark scripts share: stored results, tables, and the machine that they were measured on."""

import json
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


def stored(path: Path) -> dict:
    """What earlier runs have written."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def store(path: Path, new: Mapping) -> None:
    """Add to the results what is new; an interruption leaves a whole file, and other keys as they are."""
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(stored(path) | dict(new), indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def machine() -> str:
    """Cores, CPU, torch and its threads, as every table states them."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    cpu = names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()
    return f"{os.cpu_count()} cores, {cpu}, torch {torch.__version__}, {torch.get_num_threads()} threads"


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Rows as Markdown."""
    heads = list(heads)
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def seeded(seed: int) -> torch.Generator:
    """The generator of a seed."""
    return torch.Generator().manual_seed(seed)
