"""Handwritten digits with PyTorch's DistributedDataParallel over gloo: the twin of ``digits-mpi``.

Written as the original's recipe was: the service hands over the rendezvous (``$AZ_BATCHAI_PYTORCH_INIT_METHOD``) and
the rank (``$AZ_BATCHAI_TASK_INDEX``). Rank 0 leaves ``$AZ_BATCHAI_OUTPUT_MODEL/digits.pt``.
"""

import argparse
import gc
import os
from pathlib import Path

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=32, help="images per step and rank")
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--world-size", type=int, required=True)
    parser.add_argument("--init-method", required=True)
    parser.add_argument("--backend", default="gloo")
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group(
        options.backend, init_method=options.init_method, rank=options.rank, world_size=options.world_size
    )
    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        digits.data / 16.0, digits.target, test_size=0.25, random_state=7, stratify=digits.target
    )
    x_test, y_test = torch.tensor(x_test, dtype=torch.float32), torch.tensor(y_test)
    mine = slice(options.rank, None, options.world_size)
    x_mine, y_mine = torch.tensor(x_train[mine], dtype=torch.float32), torch.tensor(y_train[mine])
    # Every rank must take the same number of steps: ranks' shares may differ by one image.
    steps = (len(x_train) // options.world_size) // options.batch

    network = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
    model = DistributedDataParallel(network)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.15, momentum=0.9)
    measure = nn.CrossEntropyLoss()
    picker = torch.Generator().manual_seed(100 + options.rank)
    for epoch in range(1, options.epochs + 1):
        total = 0.0
        for _ in range(steps):
            pick = torch.randint(len(x_mine), (options.batch,), generator=picker)
            optimizer.zero_grad()
            loss = measure(model(x_mine[pick]), y_mine[pick])
            loss.backward()
            optimizer.step()
            total += loss.item()
        if options.rank == 0 and (epoch % 5 == 0 or epoch == 1):
            accuracy = (network(x_test).argmax(1) == y_test).float().mean().item()
            print(f"epoch {epoch:3d}  loss {total / steps:.4f}  test accuracy {accuracy:.4f}", flush=True)
    if options.rank == 0:
        accuracy = (network(x_test).argmax(1) == y_test).float().mean().item()
        path = Path(os.environ["AZ_BATCHAI_OUTPUT_MODEL"]) / "digits.pt"
        torch.save(network.state_dict(), path)
        print(f"final test accuracy {accuracy:.4f}", flush=True)
        print(f"model {path}", flush=True)

    # gloo's threads must be gone before the interpreter ends: DDP over gloo is known to abort at exit otherwise.
    dist.barrier()
    del model, optimizer, loss
    gc.collect()
    dist.destroy_process_group()


main()
