"""Exact inversion beside its peers, on the same gradients and in the same run.

    python -m pip install -e ".[bench]"        # picard; breaching only where it installs
    python benchmarks/peers.py                 # everything, resumed where it stopped
    python benchmarks/peers.py --part unmixing --seeds 5

unmixing   find the directions of L from its rows alone: our two searches in one layer, FastICA and
           DictionaryLearning (scikit-learn) and picard, which take L for a mixture of independent or sparse
           sources. Then SPEAR's step 5 for all; in "polished" our step 3 fits what the peers found to its zeros first.
whole      the whole problem, from all gradients: our three methods, DLG with L-BFGS, cosine distance and total
           variation with Adam, and the `breaching` package's version of the latter, with labels known to the last two.

Photo crops of 32×32, four linear layers of 400 units, ReLU. Times are CPU seconds on one thread. Results are kept in
benchmarks/results/peers.json.
"""

import argparse
import importlib
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from _common import RESULTS, machine, seeded, store, stored, table
from torch import Tensor, nn
from tqdm.auto import tqdm

import spear_core
from spear_core import client
from spear_core.client import data
from spear_core.client.networks import fully_connected
from spear_core.model.layers import read_problem
from spear_core.problem import Problem
from spear_core.spear.low_rank import split
from spear_core.spear.reconstruction import reconstruct
from spear_core.spear.records import Forward, Pool
from spear_core.spear.sparsity import filter_directions
from spear_core.spear.zeros import default_threshold
from spear_core.study import metrics
from spear_core.study.approximate import deep_leakage, inverting_gradients

PATH = RESULTS / "peers.json"
WIDTH, DEPTH, SIZE = 400, 4, 32
BATCHES = {"unmixing": (4, 8, 16), "whole": (4, 8)}
PACKAGES = {"picard": "picard", "breaching": "breaching", "scikit-learn": "sklearn.decomposition"}
DLG_STEPS, ADAM_STEPS = 100, 2000


@dataclass(frozen=True)
class Task:
    """What an attack is given, and the truth."""

    model: nn.Module
    gradients: dict[str, Tensor]
    batch: data.Batch
    seed: int

    @property
    def problem(self) -> Problem:
        return read_problem(self.model, self.gradients)


def main() -> None:
    """Measure what is missing, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=["unmixing", "whole", "all"], default="all")
    parser.add_argument("--only", default="", help="peers whose name contains this")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fresh", action="store_true", help="forget the stored results of these peers")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for part in PEERS if options.part == "all" else [options.part]:
        for name, peer in PEERS[part].items():
            if options.only not in name or not available(name):
                continue
            runs = {} if options.fresh else stored(PATH).get(f"{part} | {name}", {})
            keys = [(b, seed) for b in BATCHES[part] for seed in range(options.seeds)]
            for b, seed in tqdm([key for key in keys if f"{key}" not in runs], desc=name):
                runs[f"{(b, seed)}"] = measure(peer, task(b, seed)) | {"b": b, "machine": machine()}
                store(PATH, {f"{part} | {name}": runs})
    for part, peers in PEERS.items():
        print(f"\n### {part}\n\n{summary(part, peers)}")


def available(name: str) -> bool:
    """Whether the package that a peer needs is installed; says so if not. Importing it takes no part in its time."""
    package = next((module for word, module in PACKAGES.items() if word in name), None)
    if package is None:
        return True
    try:
        importlib.import_module(package)
    except Exception as error:  # an old package may fail in many ways on new dependencies
        print(f"{name} is left out: {type(error).__name__}: {error}")
        return False
    return True


def task(b: int, seed: int) -> Task:
    batch = data.load("photos", b, size=SIZE, generator=seeded(seed))
    model = fully_connected(batch.inputs.shape[1], WIDTH, DEPTH, generator=seeded(10_000 + seed))
    return Task(model, client.gradients(model, batch.inputs, batch.labels), batch, seed)


def measure(peer: Callable[[Task], Tensor], task: Task) -> dict:
    """CPU seconds of an attack, and how close its best pairing with the truth comes."""
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an ICA that has not converged says so; the table does, too
        inputs = peer(task)
    seconds = time.process_time() - began
    score = metrics.compare(inputs, task.batch.inputs)
    return {
        "exact": int(score.exact.sum()),
        "psnr": [round(max(value, -99.0), 1) for value in score.psnr.tolist()],
        "seconds": round(seconds, 4),
    }


def summary(part: str, peers: dict) -> str:
    """One line for each peer and b; the ratio is that of the median times, to the first peer's."""
    results, lines, machines, first = stored(PATH), [], set(), {}
    for name in peers:
        for b in BATCHES[part]:
            runs = [run for run in results.get(f"{part} | {name}", {}).values() if run["b"] == b]
            if not runs:
                continue
            seconds = statistics.median(run["seconds"] for run in runs)
            exact = sum(run["exact"] for run in runs) / (b * len(runs))
            psnr = statistics.median(value for run in runs for value in run["psnr"])
            ratio = seconds / first.setdefault(b, seconds)
            lines.append(
                (
                    name,
                    b,
                    len(runs),
                    f"{100 * exact:.0f} %",
                    f"{psnr:.0f} dB",
                    f"{seconds:.3f} s",
                    f"{ratio:.1f}",
                )
            )
            machines |= {run["machine"] for run in runs}
    heads = ("method", "b", "batches", "samples exact", "median PSNR", "median time", "time, relative")
    return "\n\n".join([table(heads, lines), *sorted(machines)])


# ---------------------------------------------------------------- unmixing L
def ours_in_one_layer(method: str) -> Callable[[Task], Tensor]:
    def attack(task: Task) -> Tensor:
        layer = task.problem.attacked
        return spear_core.invert_layer(
            layer.weight_grad,
            layer.bias_grad,
            layer.weight,
            layer.bias,
            method=method,
            generator=seeded(task.seed),
        ).inputs

    return attack


def unmixed(find: Callable[[Tensor, int], Tensor], polished: bool) -> Callable[[Task], Tensor]:
    """Directions found by a peer from the rows of L, then SPEAR's step 5."""

    def attack(task: Task) -> Tensor:
        layer = task.problem.attacked
        low_rank = split(layer.weight_grad, generator=seeded(task.seed))
        directions = find(low_rank.factor, task.seed)
        directions = directions / directions.norm(dim=0)
        if polished:
            pool = Pool.empty(low_rank.batch_size, directions.device)
            directions = filter_directions(
                directions.T,
                low_rank,
                pool,
                threshold=default_threshold(low_rank),
                generator=seeded(task.seed),
            ).directions
        if not directions.numel():
            return task.batch.inputs[:0]
        return reconstruct(Forward.of(low_rank, layer), directions).inputs

    return attack


def fast_ica(factor: Tensor, seed: int) -> Tensor:
    """L = S A: the rows of the unmixing matrix are the directions."""
    from sklearn.decomposition import FastICA

    model = FastICA(whiten="unit-variance", max_iter=1000, random_state=seed).fit(factor.numpy())
    return torch.from_numpy(model.components_.T.copy())


def picard(factor: Tensor, seed: int) -> Tensor:
    from picard import picard as solve

    whitening, unmixing, _ = solve(factor.T.numpy(), max_iter=1000, random_state=seed)
    return torch.from_numpy((unmixing @ whitening).T.copy())


def dictionary(factor: Tensor, seed: int) -> Tensor:
    """L ≈ S D with sparse S, so the columns of D⁻¹ are the directions."""
    from sklearn.decomposition import DictionaryLearning

    b = factor.shape[1]
    scaled = factor.numpy() * len(factor) ** 0.5
    model = DictionaryLearning(b, alpha=0.1, fit_algorithm="cd", max_iter=200, random_state=seed).fit(scaled)
    return torch.linalg.pinv(torch.from_numpy(model.components_))


# ---------------------------------------------------------------- the whole problem
def ours(method: str) -> Callable[[Task], Tensor]:
    def attack(task: Task) -> Tensor:
        return spear_core.invert(
            task.model, task.gradients, method=method, generator=seeded(task.seed)
        ).inputs

    return attack


def dlg(task: Task) -> Tensor:
    shape, classes = task.batch.inputs.shape, task.batch.classes
    *_, guess = deep_leakage(
        task.model, task.gradients, shape, classes, steps=DLG_STEPS, generator=seeded(task.seed)
    )
    return guess.inputs


def cosine_and_variation(task: Task) -> Tensor:
    *_, guess = inverting_gradients(
        task.model,
        task.gradients,
        task.batch.labels,
        task.batch.shape,
        bounds=pixel_range(task.batch),
        steps=ADAM_STEPS,
        generator=seeded(task.seed),
    )
    return guess.inputs


def pixel_range(batch: data.Batch) -> tuple[Tensor, Tensor]:
    """Black and white in standardised units."""
    return (0 - batch.shift) / batch.scale, (1 - batch.shift) / batch.scale


def breaching_package(task: Task) -> Tensor:
    """`breaching`, attack "invertinggradients", with as many steps as ours."""
    import breaching

    torch.manual_seed(task.seed)
    config = breaching.get_config(overrides=["attack=invertinggradients"])
    config.attack.optim.max_iterations = ADAM_STEPS
    config.attack.optim.callback = ADAM_STEPS
    config.case.data.shape = list(task.batch.shape)
    config.case.data.classes = task.batch.classes
    config.case.data.mean, config.case.data.std = [float(task.batch.shift)] * 3, [float(task.batch.scale)] * 3
    model = nn.Sequential(nn.Flatten(), task.model)
    setup = {"device": torch.device("cpu"), "dtype": torch.float32}
    attacker = breaching.attacks.prepare_attack(model, nn.CrossEntropyLoss(), config.attack, setup)
    payload = {
        "parameters": [parameter.detach() for parameter in model.parameters()],
        "buffers": [],
        "metadata": config.case.data,
    }
    shared = {
        "gradients": list(task.gradients.values()),
        "buffers": None,
        "metadata": {
            "num_data_points": len(task.batch.labels),
            "labels": task.batch.labels,
            "local_hyperparams": None,
            "data_key": "inputs",
        },
    }
    found, _ = attacker.reconstruct([payload], [shared], {}, dryrun=False)
    return found["data"].flatten(1).detach()


FINDERS = {
    "FastICA (scikit-learn)": fast_ica,
    "picard": picard,
    "DictionaryLearning (scikit-learn)": dictionary,
}
PEERS: dict[str, dict[str, Callable[[Task], Tensor]]] = {
    "unmixing": {
        "halfspace (ours)": ours_in_one_layer("halfspace"),
        "sampling (SPEAR, ours)": ours_in_one_layer("sampling"),
        **{
            f"{name}{', polished' if polished else ''}": unmixed(find, polished)
            for name, find in FINDERS.items()
            for polished in (False, True)
        },
    },
    "whole": {
        "consistency (ours)": ours("consistency"),
        "halfspace (ours)": ours("halfspace"),
        "sampling (SPEAR, ours)": ours("sampling"),
        "DLG, L-BFGS": dlg,
        "cosine + total variation, Adam": cosine_and_variation,
        "breaching 0.1, invertinggradients": breaching_package,
    },
}

if __name__ == "__main__":
    main()
