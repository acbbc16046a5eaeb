"""Digits with ParameterServerStrategy: the chief hands out steps, workers compute, a parameter server has the weights.

All run this script; TF_CONFIG says who is what. Workers and servers never end by themselves: the job ends with its
chief.
"""

import os
import socket
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

cluster = tf.distribute.cluster_resolver.TFConfigClusterResolver()
if cluster.task_type != "chief":
    server = tf.distribute.Server(
        cluster.cluster_spec(), job_name=cluster.task_type, task_index=cluster.task_id, protocol="grpc"
    )
    print(f"{cluster.task_type} {cluster.task_id} serves", flush=True)
    server.join()

digits = load_digits()
x_train, x_test, y_train, y_test = train_test_split(
    (digits.data / 16.0).astype(np.float32), digits.target, test_size=0.25, random_state=7, stratify=digits.target
)
# All servers must listen before the chief connects: its second try at one that was slow to start is refused.
for address in [*cluster.cluster_spec().job_tasks("ps"), *cluster.cluster_spec().job_tasks("worker")]:
    host, _, port = address.rpartition(":")
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                break
        time.sleep(0.1)
strategy = tf.distribute.ParameterServerStrategy(cluster)
coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
with strategy.scope():
    dice = np.random.default_rng(0)
    shapes = ((64, 96), (96,), (96, 10), (10,))
    network = [
        tf.Variable((dice.normal(0, 0.1, shape) if len(shape) == 2 else np.zeros(shape)).astype(np.float32))
        for shape in shapes
    ]


def scores(pixels):
    a, b, c, d = network
    return tf.nn.relu(pixels @ a + b) @ c + d


@tf.function
def step(batches):
    pixels, labels = next(batches)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores(pixels)))
    for value, slope in zip(network, tape.gradient(loss, network), strict=True):
        value.assign_sub(0.3 * slope)
    return loss


def images():
    return tf.data.Dataset.from_tensor_slices((x_train, y_train)).shuffle(2000).repeat().batch(32)


batches = iter(coordinator.create_per_worker_dataset(images))
for epoch in range(1, 21):
    losses = [coordinator.schedule(step, args=(batches,)) for _ in range(len(x_train) // 32)]
    coordinator.join()
    if epoch % 10 == 0:
        print(f"epoch {epoch:3d}  loss {np.mean([loss.fetch() for loss in losses]):.4f}", flush=True)
accuracy = float(np.mean(np.argmax(scores(tf.constant(x_test)).numpy(), 1) == y_test))
np.savez(Path(os.environ["AZ_BATCHAI_OUTPUT_MODEL"]) / "digits.npz", *(value.numpy() for value in network))
print(f"final test accuracy {accuracy:.4f} of {len(cluster.cluster_spec().job_tasks('worker'))} workers", flush=True)
