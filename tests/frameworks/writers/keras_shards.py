"""
Keras: python keras_shards.py DIRECTORY SAVES NAME [again]

Saves weights in three shards, with their manifest as NAME (such as `model-{step}.weights.json`).
All biases of save n are n. If NAME is always the same, each save waits for a line of standard
input, or its end. `again` saves the last one once more after such a line, with half of one more.
"""

# mypy: disable-error-code="import-not-found, import-untyped, misc, unused-ignore"
from __future__ import annotations

import os
import sys

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras

LAYERS, UNITS = 3, 100


def main(directory: str, saves: int, name: str, again: bool) -> None:
    layers = [keras.layers.Dense(UNITS) for _ in range(LAYERS)]
    model = keras.Sequential([keras.Input((UNITS,)), *layers])
    size = 4 * UNITS * (UNITS + 2) / 1024**3  # of one layer, in GB, and a bit
    path = os.path.join(directory, name)
    os.makedirs(directory, exist_ok=True)
    for step in range(1, saves + 1):
        save(model, step, path.format(step=step), size)
        if path.format(step=0) == path:
            sys.stdin.readline()
    if again:
        sys.stdin.readline()
        save(model, saves + 0.5, path.format(step=saves), size)


def save(model: keras.Model, number: float, path: str, size: float) -> None:  # type: ignore[no-any-unimported]
    for layer in model.layers:
        layer.bias.assign([number] * UNITS)
    model.save_weights(path, max_shard_size=size)


main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:] == ["again"])
