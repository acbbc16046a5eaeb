"""Digits with DistributedDataParallel over gloo, started by torchrun: it sets RANK, WORLD_SIZE and where to meet.

Rank 0 writes a checkpoint after each 10 epochs. A restarted rank, or a later attempt of the job, goes on from there.
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
    options = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(0)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        digits.data / 16.0, digits.target, test_size=0.25, random_state=7, stratify=digits.target
    )
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if torch.cuda.is_available() else torch.device("cpu")

    def tensors(images, labels):
        return torch.tensor(images, dtype=torch.float32, device=device), torch.tensor(labels, device=device)

    x_test, y_test = tensors(x_test, y_test)
    x_mine, y_mine = tensors(x_train[rank::ranks], y_train[rank::ranks])
    # Every rank must take the same number of steps: ranks' shares may differ by one image.
    steps = (len(x_train) // ranks) // options.batch

    network = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10)).to(device)
    checkpoint = Path(os.environ["AZ_BATCHAI_OUTPUT_MODEL"]) / "digits.pt"
    done = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device)
        network.load_state_dict(saved["network"])
        done = saved["epoch"]
        print(f"goes on after epoch {done}", flush=True)
    model = DistributedDataParallel(network)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.15, momentum=0.9)
    measure = nn.CrossEntropyLoss()
    picker = torch.Generator().manual_seed(100 + rank)
    # Nobody writes before all have read.
    dist.barrier()
    loss = None
    for epoch in range(done + 1, options.epochs + 1):
        total = 0.0
        for _ in range(steps):
            pick = torch.randint(len(x_mine), (options.batch,), generator=picker).to(device)
            optimizer.zero_grad()
            loss = measure(model(x_mine[pick]), y_mine[pick])
            loss.backward()
            optimizer.step()
            total += loss.item()
        if rank == 0 and (epoch % 10 == 0 or epoch == options.epochs):
            accuracy = (network(x_test).argmax(1) == y_test).float().mean().item()
            print(f"epoch {epoch:3d}  loss {total / steps:.4f}  test accuracy {accuracy:.4f}", flush=True)
            whole = checkpoint.with_suffix(".part")
            torch.save({"network": network.state_dict(), "epoch": epoch}, whole)
            whole.replace(checkpoint)
    if rank == 0:
        accuracy = (network(x_test).argmax(1) == y_test).float().mean().item()
        print(f"final test accuracy {accuracy:.4f} of {ranks} ranks", flush=True)

    # gloo's threads must be gone before the interpreter ends: DDP over gloo is known to abort at exit otherwise.
    dist.barrier()
    del model, optimizer, loss
    gc.collect()
    dist.destroy_process_group()


main()
