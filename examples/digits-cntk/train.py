"""Digits with CNTK 2.7 under MPI: a data-parallel distributed learner sums up the ranks' gradients.

CNTK's last release is for CPython 3.6: ``pip install cntk==2.7.post2 scikit-learn==0.24.2``, and Open MPI.
"""

import argparse
from pathlib import Path

import cntk
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64, help="images per step, of all ranks together")
    parser.add_argument("--out", default=".", help="folder of the model")
    parser.add_argument("--meet", default=".", help="folder that all ranks see, where they compare their weights")
    options = parser.parse_args()

    cntk.device.try_set_default_device(cntk.device.cpu())
    # Every rank starts with the same weights.
    cntk.cntk_py.set_fixed_random_seed(7)
    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        (digits.data / 16.0).astype(np.float32),
        np.eye(10, dtype=np.float32)[digits.target],
        test_size=0.25,
        random_state=7,
        stratify=digits.target,
    )
    images, labels = cntk.input_variable(64), cntk.input_variable(10)
    network = cntk.layers.Sequential([cntk.layers.Dense(96, activation=cntk.relu), cntk.layers.Dense(10)])(images)
    loss = cntk.cross_entropy_with_softmax(network, labels)
    error = cntk.classification_error(network, labels)
    learner = cntk.distributed.data_parallel_distributed_learner(
        cntk.adam(network.parameters, cntk.learning_parameter_schedule(0.003, 1), cntk.momentum_schedule(0.9))
    )
    trainer = cntk.Trainer(network, (loss, error), [learner])

    rank, size = cntk.Communicator.rank(), cntk.Communicator.num_workers()
    shuffle = np.random.RandomState(7)
    for epoch in range(1, options.epochs + 1):
        # The same order everywhere; each rank takes every size-th image of a step.
        order = shuffle.permutation(len(x_train))
        for start in range(0, len(order) - options.batch + 1, options.batch):
            chosen = order[start : start + options.batch][rank::size]
            trainer.train_minibatch({images: x_train[chosen], labels: y_train[chosen]})
        if rank == 0 and epoch % 10 == 0:
            print(f"epoch {epoch:3d}  loss {trainer.previous_minibatch_loss_average:.4f}", flush=True)

    # All ranks must have ended with the same weights: otherwise they trained different models.
    weights = np.concatenate([parameter.value.ravel() for parameter in network.parameters])
    meet = Path(options.meet)
    np.save(meet / f"weights-{rank}.npy", weights)
    learner.communicator().barrier()
    if not np.allclose(weights, np.load(meet / "weights-0.npy"), atol=1e-6):
        raise SystemExit(f"rank {rank}: the ranks' weights differ")

    found = network.eval({images: x_test}).argmax(axis=1)
    accuracy = float((found == y_test.argmax(axis=1)).mean())
    if rank == 0:
        network.save(str(Path(options.out) / "digits.model"))
        print(f"final test accuracy {accuracy:.4f} of {size} ranks", flush=True)
    cntk.Communicator.finalize()


main()
