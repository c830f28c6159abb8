"""
Keras: python keras_callbacks.py DIRECTORY EPOCHS {NAME,backup}

Saves with `ModelCheckpoint` as NAME (such as `model-{epoch}.keras`), or with `BackupAndRestore`.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, unused-ignore"
from __future__ import annotations

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np


def main(directory: str, epochs: int, name: str) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(), "mse")
    if name == "backup":
        callback = keras.callbacks.BackupAndRestore(directory)
    else:
        weights = name.endswith(".weights.h5")
        path = os.path.join(directory, name)
        callback = keras.callbacks.ModelCheckpoint(path, save_weights_only=weights)
    ones = np.ones((4, 2)), np.ones((4, 1))
    model.fit(*ones, batch_size=2, epochs=epochs, callbacks=[callback], verbose=0)


main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
