"""The wall of notebook 07: one run on 256 photographs of 224 × 224 behind one gradient, recorded as it went.

    python benchmarks/wall.py        # a minute of one core, some 5 GiB of memory

The client is that of benchmarks/scale.py, part imagenet: four layers of width m = 1024. What every state of
`spear_core.states` holds is noted with the time at which it came, in CPU seconds of one thread; afterwards, with the
clock stopped, each photograph is computed from the coefficients with which it was found first, and compared with the
private batch. Writes into widgets/spear_widgets/scale/recorded, where `spear_widgets.scale.wall` reads them:

wall.json         by place in the private batch: when found, PSNR then, whether certified at the end; times, machine
mixtures.webp     the 256 rows of R, as the server sees them after the split
photographs.webp  the 256 photographs as they were found; places without one are grey
large.webp        some of them at full size
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _common import machine, seeded
from PIL import Image
from torch import Tensor

import spear_core
from spear_core import client
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.model.layers import read_problem
from spear_core.search import State
from spear_core.study import metrics

PLACE = Path(__file__).resolve().parents[1] / "widgets" / "spear_widgets" / "scale" / "recorded"
BATCH, SIDE, WIDTH, DEPTH, SEED = 256, 224, 1024, 4, 0
TILE, COARSE, COLUMNS = (
    64,
    48,
    16,
)  # pixels of a tile, of one of a mixture, which is mostly noise; tiles in a row
LARGE = tuple(range(5, BATCH, 8))  # places that are kept at full size
SAME = 1e-3  # relative distance within which two rows of coefficients are one sample


@dataclass(frozen=True)
class Run:
    """What came when: CPU seconds, states without their splits, and the last one whole."""

    times: list[float]
    found: list[Tensor]
    last: State


def main() -> None:
    """Run, compare, write."""
    torch.set_num_threads(1)
    batch = data.load("photos", BATCH, size=SIDE, generator=seeded(SEED))
    run = recorded(batch)
    rows = run.last.low_rank.rows
    first, when = first_found(run)
    inputs = first @ rows
    score = metrics.compare(inputs, batch.inputs)
    order, there = score.order, score.order >= 0
    certificate = run.last.certificate
    assert certificate is not None
    record = {
        "b": BATCH,
        "m": WIDTH,
        "layers": DEPTH,
        "side": SIDE,
        "columns": COLUMNS,
        "machine": machine(),
        "split": round(run.times[0], 3),
        "end": round(run.times[-1], 3),
        "rounds": [[round(t, 3), len(c)] for t, c in zip(run.times[1:-1], run.found[1:-1], strict=True)],
        "found": [round(when[k], 3) if k >= 0 else None for k in order.tolist()],
        "psnr": [round(value, 1) if value > 0 else None for value in score.psnr.tolist()],
        "certified": [bool(certificate.certified_rows[k]) if k >= 0 else False for k in order.tolist()],
        "large": list(LARGE),
    }
    (PLACE / "wall.json").write_text(json.dumps(record) + "\n", encoding="utf-8")
    pictures = np.full((BATCH, SIDE, SIDE, 3), 0.5, dtype=np.float32)
    pictures[there.numpy()] = batch.pictures(inputs[order[there]].to(torch.float32))
    write("photographs", pictures, TILE, 80)
    write("large", pictures[list(LARGE)], SIDE, 80)
    write("mixtures", batch.pictures((rows / rows.std(dim=1, keepdim=True)).to(torch.float32)), COARSE, 40)
    print(f"{len(first)} found, {sum(record['certified'])} certified, {record['end']:.1f} CPU seconds")
    print(f"worst {min(value or -99 for value in record['psnr']):.0f} dB; {machine()}")


def recorded(batch: data.Batch) -> Run:
    """The attack on what a client sends, timed."""
    model = fully_connected(batch.inputs.shape[1], WIDTH, DEPTH, generator=seeded(10_000 + SEED))
    gradients = client.gradients(model, batch.inputs, batch.labels)
    times, found, last = [], [], None
    began = time.thread_time()
    problem = read_problem(model, gradients)
    for last in spear_core.states(problem, generator=seeded(SEED)):
        times.append(time.thread_time() - began)
        there = last.reconstruction
        found.append(last.low_rank.rows[:, :0].T if there is None else there.coefficients)
        print(f"{times[-1]:7.2f} s  {last.step}: {len(found[-1])} of {last.batch_size}", flush=True)
    assert last is not None
    return Run(times, found, last)


def first_found(run: Run) -> tuple[Tensor, list[float]]:
    """The rows of the last state as they were when they came first, and when that was."""
    last = run.found[-1]
    first, when = last.clone(), [run.times[-1]] * len(last)
    for seconds, found in reversed([pair for pair in zip(run.times, run.found, strict=True) if len(pair[1])]):
        apart, nearest = torch.cdist(last, found).min(dim=1)
        for row in (apart < SAME * last.norm(dim=1)).nonzero().flatten().tolist():
            first[row], when[row] = found[nearest[row]], seconds
    return first, when


def write(name: str, pictures: np.ndarray, side: int, quality: int) -> None:
    """A sheet of square pictures, `COLUMNS` in a row."""
    sheet = Image.new("RGB", (COLUMNS * side, -(-len(pictures) // COLUMNS) * side))
    for k, picture in enumerate(pictures):
        tile = Image.fromarray((255 * picture).round().astype("uint8"))
        sheet.paste(
            tile.resize((side, side), Image.Resampling.LANCZOS), (k % COLUMNS * side, k // COLUMNS * side)
        )
    path = PLACE / f"{name}.webp"
    sheet.save(path, quality=quality, method=6)
    print(f"{path.name}: {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
