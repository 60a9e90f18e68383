"""A real Flower simulation, whose server recovers its clients' photographs and averages all the same."""

import pytest
import torch

from spear_core import metrics

for package in ("flwr", "ray"):  # Ray runs Flower's simulation
    pytest.importorskip(package, reason=f'{package} is not installed: pip install -e ".[federated]"')
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict

from examples import flower_server


@pytest.mark.slow
def test_the_server_recovers_every_client_of_a_simulation():
    inversions = flower_server.run()
    truths = [flower_server.private_batch(client).inputs for client in range(flower_server.CLIENTS)]
    assert len(inversions) == len(truths)
    for truth in truths:
        best = max((metrics.compare(found.inputs, truth) for found in inversions), key=lambda s: s.psnr.sum())
        assert float(best.psnr.min()) > 60  # at least approximate
    for found in inversions:
        truth = max(truths, key=lambda truth: float(metrics.compare(found.inputs, truth).psnr.sum()))
        exact = metrics.compare(found.inputs, truth)
        recovered = exact.order[exact.exact].tolist()
        certified = found.certified_rows.nonzero().flatten().tolist()
        assert found.batch_size == flower_server.BATCH_SIZE
        assert set(certified) <= set(recovered), "what is certified is exact"


class OneNode:
    """A grid of two nodes, as far as a strategy asks it: their identifiers."""

    def get_node_ids(self) -> list[int]:
        return [1, 2]


def test_the_average_is_that_of_plain_federated_averaging():
    model = flower_server.network()
    strategy = flower_server.CuriousFedAvg(flower_server.network())
    strategy.configure_train(1, ArrayRecord(model.state_dict()), ConfigRecord(), OneNode())
    replies = [reply(step(client), client) for client in range(2)]
    average, _ = strategy.aggregate_train(1, replies)
    for name, value in average.to_torch_state_dict().items():
        mean = (step(0)[name] + step(1)[name]) / 2
        torch.testing.assert_close(value, mean)
    assert [found.batch_size for found in strategy.inversions] == [flower_server.BATCH_SIZE] * 2


@pytest.mark.parametrize("learning_rate", [0.01, 1.0])
def test_the_learning_rate_need_not_be_known(learning_rate):
    strategy = flower_server.CuriousFedAvg(flower_server.network())
    found = strategy.invert(ArrayRecord(step(0, learning_rate)))
    score = metrics.compare(found.inputs, flower_server.private_batch(0).inputs)
    assert found.batch_size == flower_server.BATCH_SIZE
    assert float(score.psnr.min()) > 60


def step(client: int, learning_rate: float = flower_server.LEARNING_RATE):
    """The weights after the step that `train` takes, computed without Flower."""
    model, batch = flower_server.network(), flower_server.private_batch(client)
    loss = torch.nn.functional.cross_entropy(model(batch.inputs), batch.labels)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return {
        name: value.detach() - learning_rate * grad
        for (name, value), grad in zip(model.named_parameters(), gradients)
    }


def reply(weights, node: int) -> Message:
    """A client's answer, as the simulation delivers it."""
    content = RecordDict(
        {"arrays": ArrayRecord(weights), "metrics": MetricRecord({"num-examples": flower_server.BATCH_SIZE})}
    )
    return Message(content, dst_node_id=node, message_type="train")
