"""
Keras: python keras_callbacks.py DIRECTORY EPOCHS {NAME,backup} [again]

Saves with `ModelCheckpoint` as NAME (such as `model-{epoch}.keras`), or with `BackupAndRestore`,
which goes on when a line of standard input, or its end, has come. The checkpoint of epoch n holds
the number n. `again` trains the last epoch once more after such a line, with half of one more.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, unused-ignore"
from __future__ import annotations

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np


class CountEpochs(keras.callbacks.Callback):  # type: ignore[no-any-unimported]
    def __init__(self, first: float) -> None:
        super().__init__()
        self.first = first

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        self.model.layers[-1].bias.assign([epoch + self.first])


class Wait(keras.callbacks.Callback):  # type: ignore[no-any-unimported]
    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        sys.stdin.readline()


def main(directory: str, epochs: int, name: str, again: bool) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(), "mse")
    if name == "backup":
        callbacks = [keras.callbacks.BackupAndRestore(directory), Wait()]
    else:
        weights = name.endswith(".weights.h5")
        path = os.path.join(directory, name)
        callbacks = [keras.callbacks.ModelCheckpoint(path, save_weights_only=weights)]
    ones = np.ones((4, 2)), np.ones((4, 1))
    options = {"batch_size": 2, "epochs": epochs, "verbose": 0}
    model.fit(*ones, callbacks=[CountEpochs(1), *callbacks], **options)
    if again:
        sys.stdin.readline()
        callbacks = [CountEpochs(1.5), *callbacks]
        model.fit(*ones, callbacks=callbacks, initial_epoch=epochs - 1, **options)


main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:] == ["again"])
