"""Writes the digits as the HDF5 files that the network reads. Runs on the node, before training."""

from pathlib import Path

import h5py
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

digits = load_digits()
x_train, x_test, y_train, y_test = train_test_split(
    digits.data / 16.0, digits.target, test_size=0.25, random_state=7, stratify=digits.target
)
for part, images, labels in (("train", x_train, y_train), ("test", x_test, y_test)):
    with h5py.File(f"{part}.h5", "w") as file:
        file["images"], file["labels"] = images.astype(np.float32), labels.astype(np.float32)
    # Caffe takes a list of files.
    Path(f"{part}.txt").write_text(f"{part}.h5\n")
