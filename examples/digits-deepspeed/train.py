"""Digits with DeepSpeed: ZeRO stage 1, so each rank keeps the optimizer's state of its part of the weights only.

The first job on a machine compiles DeepSpeed's operator for CPUs, which takes a minute or two.
"""

import argparse
import gc
import os
from pathlib import Path

import deepspeed
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import distributed, nn

SETTINGS = {
    "train_micro_batch_size_per_gpu": 32,
    "optimizer": {"type": "Adam", "params": {"lr": 0.003, "torch_adam": True}},
    "zero_optimization": {"stage": 1},
    "steps_per_print": 1000000,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()

    torch.manual_seed(0)
    # Rank, world size and meeting point come from RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT.
    deepspeed.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False)
    rank, size = distributed.get_rank(), distributed.get_world_size()
    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        digits.data / 16.0, digits.target, test_size=0.25, random_state=7, stratify=digits.target
    )
    x_train, y_train = torch.tensor(x_train, dtype=torch.float32), torch.tensor(y_train)
    x_test, y_test = torch.tensor(x_test, dtype=torch.float32), torch.tensor(y_test)

    network = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
    engine, *_ = deepspeed.initialize(model=network, model_parameters=network.parameters(), config=SETTINGS)
    measure = nn.CrossEntropyLoss()
    batch = SETTINGS["train_micro_batch_size_per_gpu"]
    shuffle = torch.Generator().manual_seed(7)
    for epoch in range(1, options.epochs + 1):
        # The same order everywhere; each rank takes every size-th image of it.
        order = torch.randperm(len(x_train), generator=shuffle)
        order = order[: len(order) // (batch * size) * batch * size][rank::size]
        for chosen in order.split(batch):
            loss = measure(engine(x_train[chosen]), y_train[chosen])
            engine.backward(loss)
            engine.step()
        if rank == 0 and epoch % 10 == 0:
            print(f"epoch {epoch:3d}  loss of this rank's last batch {loss.item():.4f}", flush=True)

    # All ranks must have ended with the same weights: otherwise they trained different models.
    weights = torch.cat([value.detach().flatten() for value in network.parameters()])
    first = weights.clone()
    distributed.broadcast(first, src=0)
    if not torch.allclose(weights, first, atol=1e-6):
        raise SystemExit(f"rank {rank}: the ranks' weights differ")
    if rank == 0:
        with torch.no_grad():
            accuracy = (network(x_test).argmax(1) == y_test).float().mean().item()
        torch.save(network.state_dict(), Path(os.environ["AZ_BATCHAI_OUTPUT_MODEL"]) / "digits.pt")
        print(f"final test accuracy {accuracy:.4f} of {size} ranks", flush=True)

    # gloo's threads must be gone before the interpreter ends: it is known to abort at exit otherwise.
    distributed.barrier()
    engine.destroy()
    del engine, network, loss
    gc.collect()
    distributed.destroy_process_group()


main()
