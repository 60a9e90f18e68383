"""A Flower server that reads its clients' photographs off the updates that they send, while it trains as told.

Two clients take one local step of SGD on their private photographs and send back their new weights, as Flower's
own examples do. The strategy subtracts them from the weights that it sent out: up to the learning rate, which
it need not know, the difference is the gradient. Then it averages, like any other server: no client can tell.

Flower runs simulations on Ray, which takes some 20 seconds to start and stop.

    pip install -e ".[federated]" -c constraints.txt
    python examples/flower_server.py
"""

import os

# Neither Flower nor Ray shall report this run to its makers. They read this when they are imported.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import logging
from collections.abc import Iterable

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch import Tensor, nn
from torch.nn import functional as F

import spear_core
from spear_core.client import data, networks
from spear_core.study import metrics

CLIENTS = 2
BATCH_SIZE = 8
LEARNING_RATE = 0.1
TIME_LIMIT = 10.0  # seconds that the server spends on one update


def network() -> nn.Sequential:
    """The network that is trained together."""
    return networks.fully_connected(3 * 16 * 16, 200, 3, generator=torch.Generator().manual_seed(1))


def private_batch(client: int) -> data.Batch:
    """The photographs of one client, which never leave it."""
    return data.load("photos", BATCH_SIZE, size=16, generator=torch.Generator().manual_seed(client))


def train(message: Message, context: Context) -> Message:
    """What a client does: one step on its batch, then send the new weights."""
    batch = private_batch(int(context.node_config["partition-id"]))
    model = network()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    optimiser = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    F.cross_entropy(model(batch.inputs), batch.labels).backward()
    optimiser.step()
    metric = MetricRecord({"num-examples": len(batch.inputs)})
    return Message(
        RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metric}), reply_to=message
    )


class CuriousFedAvg(FedAvg):
    """Federated averaging that also inverts every update it is sent.

    Attributes:
        model: holds the weights of the current round.
        inversions: what was recovered, one per update, in the order of arrival.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__(fraction_evaluate=0.0, min_train_nodes=CLIENTS, min_available_nodes=CLIENTS)
        self.model = model
        self.inversions: list[spear_core.Inversion] = []

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Keep the weights that are sent out."""
        self.model.load_state_dict(arrays.to_torch_state_dict())
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Invert each update, then average them as usual."""
        replies = list(replies)
        self.inversions += [self.invert(reply.content["arrays"]) for reply in replies if reply.has_content()]
        return super().aggregate_train(server_round, replies)

    def invert(self, after: ArrayRecord) -> spear_core.Inversion:
        """The batch behind one client's new weights."""
        before = [value.numpy() for value in self.model.state_dict().values()]
        update = [old - new for old, new in zip(before, after.to_numpy_ndarrays(), strict=True)]
        return spear_core.invert(self.model, update, time_limit=TIME_LIMIT)


def run() -> tuple[list[spear_core.Inversion], dict[str, Tensor]]:
    """One round of a Flower simulation; returns what its server recovered, and the averaged weights."""
    strategy = CuriousFedAvg(network())
    average: dict[str, Tensor] = {}
    server, client = ServerApp(), ClientApp()
    client.train()(train)

    @server.main()
    def serve(grid: Grid, context: Context) -> None:
        result = strategy.start(grid, ArrayRecord(network().state_dict()), num_rounds=1)
        average.update(result.arrays.to_torch_state_dict())

    run_simulation(
        server,
        client,
        num_supernodes=CLIENTS,
        backend_config={
            "init_args": {"num_cpus": 1, "include_dashboard": False, "_node_ip_address": "127.0.0.1"},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    return strategy.inversions, average


def main() -> None:
    """Print what came back from each client, and how far it is from the truth."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    truths = [private_batch(client).inputs for client in range(CLIENTS)]
    inversions, _ = run()
    for inversion in inversions:
        scores = [metrics.compare(inversion.inputs, truth) for truth in truths]
        client = max(range(CLIENTS), key=lambda k: float(scores[k].psnr.median()))
        print(inversion)
        print(
            f"  Against the photographs of client {client}, which the server lacks: "
            f"{int(scores[client].exact.sum())} of {BATCH_SIZE} exact, "
            f"worst {float(scores[client].psnr.min()):.0f} dB\n"
        )


if __name__ == "__main__":
    main()
