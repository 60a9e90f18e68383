"""Pictures through small convolutional networks: how many come back, how many are certified, and how long it takes.

    python benchmarks/networks.py --seeds 5                  # every row, resumed where it stopped
    python benchmarks/networks.py --only "FedAvg" --seeds 20
    python benchmarks/networks.py --hard 300                 # count false certificates on small, hard networks
    python benchmarks/networks.py --show                     # the table of the stored results, no new runs

A client trains on unseen photographs with cross-entropy and sends float32 gradients of one batch. *Features* counts
certified rows of the first linear layer, *pictures* those of 90 dB or more, *certified* those that `invert` calls so,
and *false* those certified below 90 dB, of which there must be none. Times are CPU seconds on one thread, of the whole
`invert` call.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from _common import RESULTS, machine, seeded, store, stored, table
from _networks_hard import network as hard_network
from _networks_hard import pictures as hard_pictures
from torch import Tensor, nn
from tqdm import tqdm

import spear_core
from spear_core import client
from spear_core.client import data

PATH = RESULTS / "networks.json"
FIRST_SEED = 1000
EXACT = 90.0  # dB
HARD, FIRST_HARD, HARD_SECONDS = "hard", 50_000, 5.0
GREY, RGB = (1, 28, 28), (3, 32, 32)
Pool = Callable[[int], nn.Module]


def cnn(
    shape: tuple[int, ...],
    kernel: int = 5,
    channels: tuple[int, int] = (32, 64),
    width: int = 512,
    classes: int = 10,
    pool: Pool = nn.MaxPool2d,
    activation: Callable[[], nn.Module] = nn.ReLU,
    stride: int = 1,
    padding: int | None = None,
) -> nn.Module:
    """Two convolutions, each followed by an activation and a pool, and two linear layers."""
    around = kernel // 2 if padding is None else padding
    layers: list[nn.Module] = []
    for before, after in zip((shape[0], channels[0]), channels):
        layers += [nn.Conv2d(before, after, kernel, stride, around), activation(), pool(2)]
    front = nn.Sequential(*layers, nn.Flatten())
    with torch.no_grad():
        features = front(torch.zeros(1, *shape)).shape[1]
    return nn.Sequential(*front, nn.Linear(features, width), nn.ReLU(), nn.Linear(width, classes))


def no_pool(size: int) -> nn.Module:
    return nn.Identity()


# (input, network, batch sizes)
CASES: dict[str, tuple[tuple[int, ...], Callable[[], nn.Module], tuple[int, ...]]] = {
    "FedAvg CNN, 5×5": (GREY, partial(cnn, GREY), (8, 24, 100)),
    "FedAvg CNN, 3×3": (GREY, partial(cnn, GREY, 3), (8, 24)),
    "FedAvg CNN, GELU": (GREY, partial(cnn, GREY, activation=nn.GELU), (8,)),
    "FedAvg CNN, average pool": (GREY, partial(cnn, GREY, pool=nn.AvgPool2d), (8,)),
    "LEAF FEMNIST CNN": (GREY, partial(cnn, GREY, width=2048, classes=62), (32,)),
    "stride 2, no pool, 5×5": (GREY, partial(cnn, GREY, stride=2, pool=no_pool), (8,)),
    "RGB, 64/128, max-pool": (RGB, partial(cnn, RGB, channels=(64, 128)), (4,)),
    "RGB, 64/128, average pool": (RGB, partial(cnn, RGB, channels=(64, 128), pool=nn.AvgPool2d), (4,)),
    "Flower's quick-start CNN": (
        RGB,
        partial(cnn, RGB, channels=(6, 16), width=120, padding=0),
        (8,),
    ),
}


def main() -> None:
    """Measure what is missing, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--hard", type=int, metavar="RUNS", help="of small networks, in place of the rows")
    parser.add_argument("--show", action="store_true", help="print the stored results, run nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.hard is not None:
        print(hard(options.hard))
        return
    for name, (shape, network, batches) in CASES.items():
        for b in batches:
            row = f"{name} | b={b}"
            if options.show or options.only not in row:
                continue
            runs = dict(stored(PATH).get(row, {}))
            for seed in tqdm(range(FIRST_SEED, FIRST_SEED + options.seeds), desc=row):
                if str(seed) not in runs:
                    runs[str(seed)] = run(shape, network, b, seed)
                    store(PATH, {row: runs})
    store(PATH, {"machine": machine()})
    print(machine(), shown(), sep="\n\n")


def run(shape: tuple[int, ...], network: Callable[[], nn.Module], b: int, seed: int) -> dict[str, float]:
    """One client, one attack."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = network()
    batch = data.load("photos", b, size=shape[-1], generator=seeded(seed))
    inputs = batch.inputs.reshape(b, 3, *shape[1:])
    inputs = inputs.mean(dim=1, keepdim=True) if shape[0] == 1 else inputs
    gradients = client.gradients(model, inputs, batch.labels)
    began = time.process_time()
    inversion = spear_core.invert(model, gradients, input_shape=shape)
    seconds = time.process_time() - began
    found, certified = inversion.network_inputs, inversion.network_inputs_certified
    if found is None or certified is None:  # too few numbers pass, so that none was sought
        found, certified = torch.full_like(inputs, float("nan")), torch.zeros(b, dtype=torch.bool)
    quality = psnr(found, inputs)
    return {
        "features": int(inversion.certified_rows.sum()),
        "pictures": len({at for value, at in quality if value >= EXACT}),
        "certified": int(certified.sum()),
        "false": sum(value < EXACT for (value, _), sure in zip(quality, certified.tolist()) if sure),
        "seconds": round(seconds, 2),
    }


def hard(runs: int) -> dict[str, object]:
    """Counts over small, hard networks, resumed where they stopped; a picture that is certified twice is false, too."""
    result = {"done": 0, "pictures": 0, "exact": 0, "certified": 0, "false": 0, "wrong": [], "seconds": 0.0}
    result |= stored(PATH).get(HARD, {})
    for seed in tqdm(range(FIRST_HARD + result["done"], FIRST_HARD + runs), desc=HARD):
        draw = random.Random(-seed)
        channels, b = draw.choice((1, 1, 3)), draw.randint(1, 4)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = hard_network(seed, channels)
        inputs = hard_pictures(seed, channels, b)
        labels = torch.randint(10, (b,), generator=seeded(seed))
        began = time.process_time()
        try:
            gradients = client.gradients(model, inputs, labels)
            shape = tuple(inputs.shape[1:])
            inversion = spear_core.invert(
                model, gradients, batch_size=b, input_shape=shape, time_limit=HARD_SECONDS
            )
        except ValueError:  # refused, as a batch of equal features is
            inversion = None
        result["seconds"] = round(result["seconds"] + time.process_time() - began, 1)
        result["done"] += 1
        result["pictures"] += b
        if inversion is not None and inversion.network_inputs is not None:
            quality = psnr(inversion.network_inputs, inputs)
            sure = [at for (_, at), told in zip(quality, inversion.network_inputs_certified.tolist()) if told]
            right = {
                at
                for (value, at), told in zip(quality, inversion.network_inputs_certified)
                if told and value >= EXACT
            }
            result["exact"] += len({at for value, at in quality if value >= EXACT})
            result["certified"] += len(sure)
            result["false"] += len(sure) - len(right)
            result["wrong"] += [seed] * (len(sure) > len(right))
        store(PATH, {HARD: result})
    return result


def psnr(found: Tensor, truth: Tensor) -> list[tuple[float, int]]:
    """Of each picture found, beside the one that it is closest to, and which that is."""
    distance = torch.cdist(
        found.flatten(1).double(), truth.flatten(1).double(), compute_mode="donot_use_mm_for_euclid_dist"
    )
    error, at = (distance.square() / truth[0].numel()).nan_to_num(nan=float("inf")).min(dim=1)
    span = float(truth.max() - truth.min())
    return list(zip((-10 * torch.log10(error / span**2)).tolist(), at.tolist()))


def shown() -> str:
    """The stored results as a table."""
    rows = []
    for row, runs in stored(PATH).items():
        if row in ("machine", HARD):
            continue
        name, _, b = row.partition(" | b=")
        of = int(b) * len(runs)
        sums = {
            key: sum(run[key] for run in runs.values())
            for key in ("features", "pictures", "certified", "false")
        }
        seconds = [run["seconds"] for run in runs.values()]
        counts = [f"{sums[key]} of {of}" for key in ("features", "pictures", "certified")]
        times = [f"{statistics.median(seconds):.1f} s", f"{max(seconds):.1f} s"]
        rows.append((name, b, len(runs), *counts, sums["false"], *times))
    heads = ("network", "b", "seeds", "features", "pictures", "certified", "false", "median", "worst")
    return table(heads, rows)


if __name__ == "__main__":
    main()
