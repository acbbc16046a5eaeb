"""Digits with JAX: every process has one part of the images, gradients are averaged over the processes' mesh."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

jax.distributed.initialize()
rank, ranks = jax.process_index(), jax.process_count()

digits = load_digits()
x_train, x_test, y_train, y_test = train_test_split(
    (digits.data / 16.0).astype(np.float32), digits.target, test_size=0.25, random_state=7, stratify=digits.target
)
mesh = Mesh(np.array(jax.devices()), ("data",))
by_device, everywhere = NamedSharding(mesh, PartitionSpec("data")), NamedSharding(mesh, PartitionSpec())
# The same number of images for each device.
count = len(x_train) // mesh.size * mesh.size
mine = np.array_split(np.arange(count), ranks)[rank]
x_all = jax.make_array_from_process_local_data(by_device, x_train[mine])
y_all = jax.make_array_from_process_local_data(by_device, y_train[mine])


def scores(network, images):
    return jax.nn.relu(images @ network["a"] + network["b"]) @ network["c"] + network["d"]


def loss_of(network, images, labels):
    return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(scores(network, images)), labels[:, None], axis=1))


@jax.jit
def step(network, speed, images, labels):
    loss, slope = jax.value_and_grad(loss_of)(network, images, labels)
    speed = jax.tree.map(lambda old, new: 0.9 * old + new, speed, slope)
    return jax.tree.map(lambda value, change: value - 0.15 * change, network, speed), speed, loss


dice = np.random.default_rng(0)
start = {
    "a": dice.normal(0, 0.1, (64, 96)),
    "b": np.zeros(96),
    "c": dice.normal(0, 0.1, (96, 10)),
    "d": np.zeros(10),
}
network = {
    name: jax.make_array_from_process_local_data(everywhere, value.astype(np.float32)) for name, value in start.items()
}
speed = jax.tree.map(jnp.zeros_like, network)
for number in range(1, 301):
    network, speed, loss = step(network, speed, x_all, y_all)
    if rank == 0 and number % 50 == 0:
        print(f"step {number:3d}  loss {float(loss):.4f}", flush=True)

own = {name: np.asarray(value.addressable_data(0)) for name, value in network.items()}
if rank == 0:
    accuracy = float(np.mean(np.argmax(np.asarray(scores(own, x_test)), 1) == y_test))
    np.savez(Path(os.environ["AZ_BATCHAI_OUTPUT_MODEL"]) / "digits.npz", **own)
    print(f"final test accuracy {accuracy:.4f} of {ranks} ranks", flush=True)
jax.distributed.shutdown()
