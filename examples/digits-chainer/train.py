"""Digits with ChainerMN under MPI: the data set is scattered over the ranks, their gradients are averaged.

Chainer 7.8.1 needs ``pip install chainer==7.8.1 "numpy<1.24" "setuptools<70" scikit-learn mpi4py`` and an MPI.
"""

import argparse
from pathlib import Path

import chainer
import chainermn
import numpy as np
from chainer import functions, links
from chainer.training import extensions
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


class Network(chainer.Chain):
    def __init__(self):
        super().__init__()
        with self.init_scope():
            self.hidden = links.Linear(64, 96)
            self.scores = links.Linear(96, 10)

    def forward(self, images):
        return self.scores(functions.relu(self.hidden(images)))


def data():
    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        (digits.data / 16.0).astype(np.float32),
        digits.target.astype(np.int32),
        test_size=0.25,
        random_state=7,
        stratify=digits.target,
    )
    return chainer.datasets.TupleDataset(x_train, y_train), chainer.datasets.TupleDataset(x_test, y_test)


def tell(trainer):
    loss = float(trainer.observation["main/loss"].array)
    print(f"epoch {trainer.updater.epoch:3d}  loss of this rank's last batch {loss:.4f}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--batch", type=int, default=32, help="images per step and rank")
    parser.add_argument("--out", default=".", help="folder of the model")
    options = parser.parse_args()

    # Over CPUs; "pure_nccl" is the one for GPUs.
    world = chainermn.create_communicator("naive")
    np.random.seed(world.rank)
    train, test = data() if world.rank == 0 else (None, None)
    train = chainermn.scatter_dataset(train, world, shuffle=True, seed=7)
    test = chainermn.scatter_dataset(test, world)

    model = links.Classifier(Network())
    optimizer = chainermn.create_multi_node_optimizer(chainer.optimizers.Adam(0.003), world)
    optimizer.setup(model)
    batches = chainer.iterators.SerialIterator(train, options.batch)
    trainer = chainer.training.Trainer(
        chainer.training.StandardUpdater(batches, optimizer), (options.epochs, "epoch"), out=options.out
    )
    rest = chainer.iterators.SerialIterator(test, options.batch, repeat=False, shuffle=False)
    # It averages over the images of all ranks' parts.
    evaluator = chainermn.create_multi_node_evaluator(extensions.Evaluator(rest, model), world)
    trainer.extend(evaluator)
    if world.rank == 0:
        trainer.extend(tell, trigger=(10, "epoch"))
    trainer.run()

    found = evaluator(trainer)
    # All ranks must have ended with the same weights: otherwise they trained different models.
    weights = np.concatenate([value.array.ravel() for _, value in sorted(model.namedparams())])
    first = world.bcast_obj(weights if world.rank == 0 else None)
    if not np.allclose(weights, first, atol=1e-6):
        raise SystemExit(f"rank {world.rank}: the ranks' weights differ")
    if world.rank == 0:
        chainer.serializers.save_npz(str(Path(options.out) / "digits.npz"), model)
        print(f"final test accuracy {found['validation/main/accuracy']:.4f} of {world.size} ranks", flush=True)


main()
