"""Digits with Ray: a forest whose trees grow on all nodes, each a task that says where it ran."""

import os
from pathlib import Path

import numpy as np
import ray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.tree import DecisionTreeClassifier

TREES = 60


@ray.remote(scheduling_strategy="SPREAD")
def grow(seed, images, labels):
    pick = np.random.default_rng(seed).integers(len(images), size=len(images))
    tree = DecisionTreeClassifier(max_features="sqrt", random_state=seed).fit(images[pick], labels[pick])
    return ray.get_runtime_context().get_node_id(), tree


ray.init(log_to_driver=False)
digits = load_digits()
x_train, x_test, y_train, y_test = train_test_split(
    digits.data / 16.0, digits.target, test_size=0.25, random_state=7, stratify=digits.target
)
images, labels = ray.put(x_train), ray.put(y_train)
grown = ray.get([grow.remote(seed, images, labels) for seed in range(TREES)])
votes = np.zeros((len(x_test), 10))
for _, tree in grown:
    votes += tree.predict_proba(x_test)
for node in sorted({node for node, _ in grown}):
    print(f"node {node[:8]} grew {sum(1 for where, _ in grown if where == node)} trees", flush=True)
accuracy = float(np.mean(votes.argmax(1) == y_test))
np.savez(Path(os.environ["AZ_BATCHAI_OUTPUT_MODEL"]) / "digits.npz", votes=votes)
print(f"final test accuracy {accuracy:.4f} of {len({node for node, _ in grown})} nodes", flush=True)
