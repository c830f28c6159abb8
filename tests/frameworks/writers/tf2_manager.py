"""
TensorFlow 2: python tf2_manager.py DIRECTORY SAVES KEEP [SHARD_BYTES]

KEEP 0 keeps all. Save number n holds the number n.
"""

# mypy: disable-error-code="import-not-found, import-untyped"
from __future__ import annotations

import sys

import tensorflow as tf


def main(directory: str, saves: int, keep: int, shard_bytes: int = 0) -> None:
    variables = {name: tf.Variable(tf.zeros(64)) for name in ("a", "b", "c")}
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(**variables), directory, max_to_keep=keep or None
    )
    options = None
    if shard_bytes:
        policy = tf.train.experimental.MaxShardSizePolicy(shard_bytes)
        options = tf.train.CheckpointOptions(experimental_sharding_callback=policy)
    for number in range(1, saves + 1):
        for variable in variables.values():
            variable.assign(tf.fill([64], float(number)))
        manager.save(options=options)


main(sys.argv[1], *map(int, sys.argv[2:]))
