"""A real Flower simulation, whose server recovers its clients' photographs and averages all the same."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spear_core.study import metrics

for package in ("flwr", "ray"):  # Ray runs Flower's simulations
    pytest.importorskip(package, reason=f'{package} is not installed: pip install -e ".[federated]"')
from flwr.app import ArrayRecord

from examples import flower_server

ROOT = Path(__file__).resolve().parents[2]
CLIENTS, B = range(flower_server.CLIENTS), flower_server.BATCH_SIZE
TRUTHS = [flower_server.private_batch(client).inputs for client in CLIENTS]
LIMIT = 200  # seconds; half a minute on two idle cores
RAY_FAILED = "node timed out during startup"  # what Ray says after half a minute of its own
SIMULATE = """
import sys
import torch
from examples import flower_server
inversions, average = flower_server.run()
torch.save([[(i.batch_size, i.inputs, i.certified_rows) for i in inversions], average], sys.argv[1])
"""


def step(client: int, learning_rate: float = flower_server.LEARNING_RATE) -> dict[str, torch.Tensor]:
    """The weights after the step that `train` takes, computed without Flower."""
    model, batch = flower_server.network(), flower_server.private_batch(client)
    loss = torch.nn.functional.cross_entropy(model(batch.inputs), batch.labels)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return {
        name: value.detach() - learning_rate * grad
        for (name, value), grad in zip(model.named_parameters(), gradients)
    }


def assert_recovered(batch_size, inputs, certified_rows, truth):
    """Every photograph at least closely, and exactly where that is claimed."""
    score = metrics.compare(inputs, truth)
    assert batch_size == len(inputs) == B
    assert float(score.psnr.min()) > 60
    exact = set(score.order[score.exact].tolist())
    assert set(certified_rows.nonzero().flatten().tolist()) <= exact


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    """The example's own run, in a process group of its own: Ray starts several, and waits forever if one dies."""
    path = tmp_path_factory.mktemp("flower") / "results.pt"
    process = subprocess.Popen(
        [sys.executable, "-c", SIMULATE, str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        if RAY_FAILED not in output and "ROUND 1" in output:  # clients could train: what is slow is ours
            raise
        output += RAY_FAILED
    if RAY_FAILED in output:
        pytest.skip("Ray did not start in time: the machine is too busy")
    assert process.returncode == 0, output
    return torch.load(path, weights_only=True)


@pytest.mark.thorough
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_the_server_recovers_every_client_of_a_simulation(simulated):
    found, _ = simulated
    assert len(found) == len(TRUTHS)
    order = [
        max(CLIENTS, key=lambda k: float(metrics.compare(inputs, TRUTHS[k]).psnr.sum()))
        for _, inputs, _ in found
    ]
    assert sorted(order) == list(CLIENTS)
    for client, result in zip(order, found):
        assert_recovered(*result, TRUTHS[client])


@pytest.mark.thorough
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_it_averages_like_any_other_server(simulated):
    _, average = simulated
    steps = [step(client) for client in CLIENTS]
    for name, value in average.items():
        torch.testing.assert_close(value, sum(weights[name] for weights in steps) / len(steps))


@pytest.mark.parametrize("learning_rate", [0.01, 0.1, 1.0])
def test_the_learning_rate_need_not_be_known(learning_rate):
    strategy = flower_server.CuriousFedAvg(flower_server.network())
    found = strategy.invert(ArrayRecord(step(0, learning_rate)))
    assert_recovered(found.batch_size, found.inputs, found.certified_rows, TRUTHS[0])
