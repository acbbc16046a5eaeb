"""Handwritten digits by data-parallel SGD under MPI: numpy, mpi4py, and nothing else.

Every rank holds an equal share of the training images, computes the gradient of a small network on its part of each
batch, and averages it with the other ranks' (Allreduce), so that all ranks keep the same weights. Rank 0 reports each
epoch on standard output and leaves the model where the job says: ``$AZ_BATCHAI_OUTPUT_MODEL/digits.npz``.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from mpi4py import MPI
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HIDDEN = 96
CLASSES = 10


def initial_weights(inputs, rng):
    return {
        "w1": rng.normal(0, np.sqrt(2 / inputs), (inputs, HIDDEN)),
        "b1": np.zeros(HIDDEN),
        "w2": rng.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, CLASSES)),
        "b2": np.zeros(CLASSES),
    }


def forward(weights, images):
    hidden = np.maximum(images @ weights["w1"] + weights["b1"], 0)
    scores = hidden @ weights["w2"] + weights["b2"]
    scores -= scores.max(axis=1, keepdims=True)
    chances = np.exp(scores)
    return hidden, chances / chances.sum(axis=1, keepdims=True)


def gradients(weights, images, labels):
    hidden, chances = forward(weights, images)
    loss = -np.log(chances[np.arange(len(labels)), labels] + 1e-12).mean()
    error = chances
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    back = (error @ weights["w2"].T) * (hidden > 0)
    return loss, {"w1": images.T @ back, "b1": back.sum(0), "w2": hidden.T @ error, "b2": error.sum(0)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64, help="images per step over all ranks")
    parser.add_argument("--rate", type=float, default=0.15)
    options = parser.parse_args()

    world = MPI.COMM_WORLD
    rank, size = world.Get_rank(), world.Get_size()
    names = world.gather(MPI.Get_processor_name(), root=0)
    if rank == 0:
        print(f"{size} ranks on {', '.join(names)}", flush=True)

    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        digits.data / 16.0, digits.target, test_size=0.25, random_state=7, stratify=digits.target
    )
    share = slice(rank, None, size)
    mine_x, mine_y = x_train[share], y_train[share]
    steps = len(x_train) // options.batch
    per_rank = max(1, options.batch // size)

    weights = initial_weights(x_train.shape[1], np.random.default_rng(0))
    velocity = {name: np.zeros_like(value) for name, value in weights.items()}
    order = np.random.default_rng(100 + rank)
    started = time.perf_counter()
    for epoch in range(1, options.epochs + 1):
        total = 0.0
        for _ in range(steps):
            pick = order.integers(0, len(mine_x), per_rank)
            loss, own = gradients(weights, mine_x[pick], mine_y[pick])
            for name, gradient in own.items():
                mean = np.empty_like(gradient)
                world.Allreduce(np.ascontiguousarray(gradient), mean, op=MPI.SUM)
                velocity[name] = 0.9 * velocity[name] - options.rate * mean / size
                weights[name] += velocity[name]
            total += loss
        if rank == 0 and (epoch % 5 == 0 or epoch == 1):
            accuracy = (forward(weights, x_test)[1].argmax(1) == y_test).mean()
            print(f"epoch {epoch:3d}  loss {total / steps:.4f}  test accuracy {accuracy:.4f}", flush=True)

    # All ranks must have ended with the same weights: otherwise they trained different models.
    drift = world.allreduce(
        max(np.abs(value - world.bcast(value, root=0)).max() for value in weights.values()), MPI.MAX
    )
    if drift > 1e-9:
        raise SystemExit(f"rank {rank}: the ranks' weights differ by {drift}")
    if rank == 0:
        accuracy = (forward(weights, x_test)[1].argmax(1) == y_test).mean()
        model = Path(os.environ["AZ_BATCHAI_OUTPUT_MODEL"]) / "digits.npz"
        np.savez(model, **weights)
        print(f"trained {options.epochs} epochs in {time.perf_counter() - started:.1f} s", flush=True)
        print(f"final test accuracy {accuracy:.4f}", flush=True)
        print(f"model {model}", flush=True)


main()
