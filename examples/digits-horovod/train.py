"""Digits with Horovod and PyTorch under MPI: each rank has its part of a step, their gradients are averaged.

Horovod's last release needs a change for today's PyTorch: ``CMAKE_CXX_STANDARD 17`` instead of 14 in its CMakeLists.txt
and in horovod/torch/CMakeLists.txt, and then HOROVOD_WITH_MPI=1 HOROVOD_WITH_PYTORCH=1 when it is built.
"""

import argparse
from pathlib import Path

import horovod.torch as hvd
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=64, help="images per step, of all ranks together")
    parser.add_argument("--out", default=".", help="folder of the model")
    options = parser.parse_args()

    hvd.init()
    torch.set_num_threads(1)
    torch.manual_seed(hvd.rank())
    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        digits.data / 16.0, digits.target, test_size=0.25, random_state=7, stratify=digits.target
    )
    x_train, y_train = torch.tensor(x_train, dtype=torch.float32), torch.tensor(y_train)
    x_test, y_test = torch.tensor(x_test, dtype=torch.float32), torch.tensor(y_test)

    network = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
    optimizer = hvd.DistributedOptimizer(
        torch.optim.SGD(network.parameters(), lr=0.15, momentum=0.9), named_parameters=network.named_parameters()
    )
    # Each rank began with weights of its own.
    hvd.broadcast_parameters(network.state_dict(), root_rank=0)
    hvd.broadcast_optimizer_state(optimizer, root_rank=0)
    measure = nn.CrossEntropyLoss()
    shuffle = torch.Generator().manual_seed(7)
    for epoch in range(1, options.epochs + 1):
        # The same order everywhere; each rank takes every size-th image of a step.
        order = torch.randperm(len(x_train), generator=shuffle)
        for step in order[: len(order) // options.batch * options.batch].split(options.batch):
            chosen = step[hvd.rank() :: hvd.size()]
            optimizer.zero_grad()
            loss = measure(network(x_train[chosen]), y_train[chosen])
            loss.backward()
            optimizer.step()
        if epoch % 10 == 0:
            loss = hvd.allreduce(loss.detach(), name="loss")
            if hvd.rank() == 0:
                print(f"epoch {epoch:3d}  loss {loss.item():.4f}", flush=True)

    # All ranks must have ended with the same weights: otherwise they trained different models.
    weights = torch.cat([value.detach().flatten() for value in network.parameters()])
    if not torch.allclose(weights, hvd.broadcast(weights, root_rank=0, name="weights"), atol=1e-6):
        raise SystemExit(f"rank {hvd.rank()}: the ranks' weights differ")
    if hvd.rank() == 0:
        with torch.no_grad():
            accuracy = (network(x_test).argmax(1) == y_test).float().mean().item()
        torch.save(network.state_dict(), Path(options.out) / "digits.pt")
        print(f"final test accuracy {accuracy:.4f} of {hvd.size()} ranks", flush=True)


main()
