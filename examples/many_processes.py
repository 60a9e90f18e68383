"""One batch, many processes: the same call in each, under torchrun.

    torchrun --nproc-per-node 2 examples/many_processes.py --method sampling --batch-size 18
    torchrun --nproc-per-node 4 examples/many_processes.py --device cuda       # one GPU for each process

Every process makes the same gradients from the same seed here; in real use every process loads the same
gradients. What `torch.distributed` does is in one line, the rest is the plain call.
"""

import argparse
import os
import time
from datetime import timedelta

import torch
import torch.distributed as dist

import spear_core
from spear_core import client
from spear_core.client import data, networks
from spear_core.study import metrics


def main() -> None:
    """Attack with all processes; the first one tells what came back."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-b", "--batch-size", type=int, default=18)
    parser.add_argument("--method", default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    # a process that does not answer for so long counts as lost, and the others go on without it
    dist.init_process_group("nccl" if options.device == "cuda" else "gloo", timeout=timedelta(minutes=2))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // dist.get_world_size()))
    if options.device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))

    generator = torch.Generator().manual_seed(options.seed)
    batch = data.load("photos", options.batch_size, generator=generator)
    model = networks.fully_connected(batch.inputs.shape[1], generator=generator).to(options.device)
    gradients = client.gradients(model, batch.inputs.to(options.device), batch.labels.to(options.device))

    began = time.perf_counter()
    inversion = spear_core.invert(
        model, gradients, method=options.method, generator=torch.Generator().manual_seed(options.seed)
    )
    if dist.get_rank() == 0:
        exact = int(metrics.compare(inversion.inputs, batch.inputs).exact.sum())
        print(f"{dist.get_world_size()} processes, {time.perf_counter() - began:.2f} s\n{inversion}")
        print(f"Against the truth: {exact} of {options.batch_size} exact")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
