"""
TensorFlow 2: python tf2_manager.py DIRECTORY SAVES KEEP [SHARD_BYTES] [again]

KEEP 0 keeps all. Save number n holds the number n. `again` saves the last one over the old one,
with half of one more, when a line of standard input, or its end, has come.
"""

# mypy: disable-error-code="import-not-found, import-untyped"
from __future__ import annotations

import sys

import tensorflow as tf


def main(directory: str, saves: int, keep: int, shard_bytes: int, again: bool) -> None:
    variables = {name: tf.Variable(tf.zeros(64)) for name in ("a", "b", "c")}
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(**variables), directory, max_to_keep=keep or None
    )
    options = None
    if shard_bytes:
        policy = tf.train.experimental.MaxShardSizePolicy(shard_bytes)
        options = tf.train.CheckpointOptions(experimental_sharding_callback=policy)
    for number in [*range(1, saves + 1), *([saves + 0.5] if again else [])]:
        if number > saves:
            sys.stdin.readline()
        for variable in variables.values():
            variable.assign(tf.fill([64], float(number)))
        manager.save(checkpoint_number=saves if number > saves else None, options=options)


numbers = [int(argument) for argument in sys.argv[2:] if argument != "again"]
main(sys.argv[1], numbers[0], numbers[1], sum(numbers[2:]), sys.argv[-1] == "again")
