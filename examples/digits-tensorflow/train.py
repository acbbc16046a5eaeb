"""Digits with MultiWorkerMirroredStrategy: TF_CONFIG says who the workers are, gradients are summed between them."""

import json
import os
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

options = tf.distribute.experimental.CommunicationOptions(
    implementation=tf.distribute.experimental.CommunicationImplementation.RING
)
strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
task = json.loads(os.environ["TF_CONFIG"])["task"]
first = task["index"] == 0

digits = load_digits()
x_train, x_test, y_train, y_test = train_test_split(
    (digits.data / 16.0).astype(np.float32), digits.target, test_size=0.25, random_state=7, stratify=digits.target
)
batch = 32 * strategy.num_replicas_in_sync
images = tf.data.Dataset.from_tensor_slices((x_train, y_train)).shuffle(2000, seed=1).repeat()
images = images.batch(batch, drop_remainder=True)
sharding = tf.data.Options()
sharding.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
batches = iter(strategy.experimental_distribute_dataset(images.with_options(sharding)))

with strategy.scope():
    dice = np.random.default_rng(0)
    shapes = ((64, 96), (96,), (96, 10), (10,))
    network = [
        tf.Variable((dice.normal(0, 0.1, shape) if len(shape) == 2 else np.zeros(shape)).astype(np.float32))
        for shape in shapes
    ]
    speed = [tf.Variable(tf.zeros(shape)) for shape in shapes]


def scores(pixels):
    a, b, c, d = network
    return tf.nn.relu(pixels @ a + b) @ c + d


@tf.function
def train(pixels, labels):
    def on_each(pixels, labels):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores(pixels)))
        together = tf.distribute.get_replica_context()
        slopes = together.all_reduce(tf.distribute.ReduceOp.MEAN, tape.gradient(loss, network))
        for value, rate, slope in zip(network, speed, slopes, strict=True):
            rate.assign(0.9 * rate + slope)
            value.assign_sub(0.15 * rate)
        return loss

    return strategy.reduce(tf.distribute.ReduceOp.MEAN, strategy.run(on_each, args=(pixels, labels)), axis=None)


steps = 20 * len(x_train) // batch
for step in range(1, steps + 1):
    loss = train(*next(batches))
    if first and step % (steps // 4) == 0:
        print(f"step {step:4d}  loss {float(loss):.4f}", flush=True)
if first:
    accuracy = float(np.mean(np.argmax(scores(tf.constant(x_test)).numpy(), 1) == y_test))
    np.savez(Path(os.environ["AZ_BATCHAI_OUTPUT_MODEL"]) / "digits.npz", *(value.numpy() for value in network))
    print(f"final test accuracy {accuracy:.4f} of {strategy.num_replicas_in_sync} ranks", flush=True)
