"""What each defence protects, and what it costs: attack and accuracy against the defence's knob.

    python benchmarks/defences.py                   # all parts, resumed where they stopped
    python benchmarks/defences.py --part attack --only noise

attack    photo crops, b = 8, m = 400, four layers: PSNR of every sample, certified rows, false ones, refusals
zeros     the same clients, where their zeros are not those of the server's forward pass, by the most zeros alone
accuracy  digits the network never saw, right, after five epochs of Adam on 1,200 others; every step with the defence;
          hidden layers are frozen

Results are kept in benchmarks/results/defences.json and printed as Markdown. An attack ends after two CPU seconds,
or when the round in which they pass is finished.
"""

import argparse
import json
import time

import torch
from _common import RESULTS, machine, seeded, store, stored, table
from torch import nn
from tqdm.auto import tqdm
from world.promises import stop_after

from spear_core import client
from spear_core.client import data, defences
from spear_core.client.networks import fully_connected
from spear_core.study import metrics
from spear_core.study.defended import BATCH, CLIP, DEFENCES, FORMATS, HIDDEN, message
from spear_core.study.outcomes import SECONDS, Measured, outcome
from spear_core.study.sparsest import sparsest_batch

PATH = RESULTS / "defences.json"
TRAINED, EPOCHS, MINIBATCH, WIDTH, DEPTH = 1200, 5, 24, 100, 3
MOVED = ("steps", "lr", "minibatch", "dropout")  # zeros that the server's own weights do not foretell
COSTS = (
    "noise",
    "clip",
    "dp",
    "bits",
    "top",
    "format",
    "batch",
    "clients",
    "width",
    "activation",
    "dropout",
    "norm",
    "hidden",
)


def attack(name: str, value: object, seed: int) -> dict:
    """One message, inverted; a refusal is an outcome of its own."""
    sent = message(name, value, seed=seed)
    began = time.process_time()
    found = outcome(sent, progress=stop_after(SECONDS))
    return {
        "psnr": [round(max(p, -99.0), 1) for p in found.psnr.tolist()],  # JSON knows no infinity
        "certified": int(found.certified.sum()),
        "false": found.false,
        "refused": found.words,
        "seconds": round(time.process_time() - began, 3),
    }


def zeros(name: str, value: object, seed: int) -> dict:
    """One message, inverted without the forward pass; nothing of it can be certified."""
    sent = message(name, value, seed=seed)
    began = time.process_time()
    inputs = sparsest_batch(
        sent.gradients["0.weight"], sent.gradients["0.bias"], BATCH, generator=seeded(seed)
    )
    seconds = time.process_time() - began
    psnr = metrics.compare(inputs, sent.batch.inputs).psnr
    return {
        "psnr": [round(max(p, -99.0), 1) for p in psnr.tolist()],
        "certified": 0,
        "false": 0,
        "refused": "",
        "seconds": round(seconds, 3),
    }


def accuracy(name: str, value: object, seed: int) -> dict:
    """Share of unseen digits that a network is right about, when every step is a defended message."""
    digits = data.load("digits", 1797, generator=seeded(seed))
    activation = getattr(nn, str(value)) if name == "activation" else nn.ReLU
    width = value if name == "width" else WIDTH
    model = fully_connected(64, width, DEPTH, activation=activation, generator=seeded(100 + seed))
    extra = {"dropout": lambda: nn.Dropout(value), "norm": lambda: nn.BatchNorm1d(WIDTH)}.get(name)
    if extra is not None and value != "none":
        modules = [[m, extra()] if isinstance(m, nn.ReLU) else [m] for m in model]
        model = nn.Sequential(*(m for group in modules for m in group))
    size = {"batch": value, "clients": BATCH * value if name == "clients" else 0}.get(name, MINIBATCH)
    generator = seeded(200 + seed)
    torch.manual_seed(seed)  # of dropout
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    parameters = dict(model.named_parameters())
    for _ in range(EPOCHS):
        for rows in torch.randperm(TRAINED, generator=generator).split(size):
            model.train(not (name == "norm" and value == "eval"))
            x, y = digits.inputs[rows], digits.labels[rows]
            if name in ("clip", "dp"):
                norm, noise = (value, 0.0) if name == "clip" else (CLIP, value)
                sent = client.clipped(model, x, y, norm=norm, noise_multiplier=noise, generator=generator)
            else:
                sent = client.gradients(model, x, y)
            change = {
                "noise": lambda g: client.noised(g, value, generator=generator),
                "bits": lambda g: defences.quantised(g, value),
                "top": lambda g: defences.sparsified(g, value),
                "format": lambda g: defences.rounded(g, FORMATS[value]),
                "hidden": lambda g: defences.withheld(g, HIDDEN[value]),
            }.get(name, dict)
            for key, grad in change(sent).items():
                parameters[key].grad = grad
            optimiser.step()
    model.eval()
    with torch.no_grad():
        right = model(digits.inputs[TRAINED:]).argmax(dim=1) == digits.labels[TRAINED:]
    return {"accuracy": float(right.to(torch.float64).mean())}


def main() -> int:
    """Measure what is missing, print the table; 1 if a certified row was not exact."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=["attack", "zeros", "accuracy", "all"], default="all")
    parser.add_argument("--only", choices=[*DEFENCES, "all"], default="all")
    parser.add_argument("--seeds", type=int, default=10, help="batches for each value; networks: at most 3")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = list(DEFENCES) if options.only == "all" else [options.only]
    parts = {
        "attack": (attack, names, options.seeds),
        "zeros": (zeros, [n for n in names if n in MOVED], options.seeds),
        "accuracy": (accuracy, [n for n in names if n in COSTS], min(3, options.seeds)),
    }
    for part, (measure, chosen, seeds) in parts.items():
        if options.part not in (part, "all"):
            continue
        for name in tqdm(chosen, desc=part, disable=None):
            rows = stored(PATH).get(part, {})
            for value in DEFENCES[name].values:
                for seed in range(seeds):
                    key = json.dumps([name, value, seed], ensure_ascii=False)
                    if key not in rows:
                        rows[key] = {"defence": name, "value": value, "seed": seed} | measure(
                            name, value, seed
                        )
            store(PATH, {part: rows, "machine": machine()})
    results = stored(PATH)
    lines = []
    for name in names:
        for value in DEFENCES[name].values:
            for part in ("attack", "zeros"):
                runs, networks = (results.get(key, {}).values() for key in (part, "accuracy"))
                found = Measured.of(runs, networks, defence=name, value=value)
                if found.attacks:
                    lines.append(
                        line(DEFENCES[name].name + ", by zeros alone" * (part == "zeros"), value, found)
                    )
    heads = (
        "defence",
        "knob",
        "exact",
        "≥ 40 dB",
        "median PSNR",
        "certified",
        "false",
        "refused",
        "accuracy",
        "CPU s",
    )
    print(f"{results.get('machine', machine())}\n\n{table(heads, lines)}")
    return int(any(row["false"] for row in results.get("attack", {}).values()))


def line(name: str, value: object, found: Measured) -> list[object]:
    """One line of the table."""
    return [
        name,
        value,
        f"{found.share():.0%}",
        f"{found.share(metrics.FOUND_DB):.0%}",
        f"{found.median:.0f} dB",
        f"{found.certified} of {len(found.psnr)}",
        found.false,
        found.refused,
        "–" if found.accuracy is None else f"{found.accuracy:.1%}",
        f"{found.seconds:.2f}",
    ]


if __name__ == "__main__":
    raise SystemExit(main())
