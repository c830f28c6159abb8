"""
TensorFlow 1's Saver: python tf1_saver.py DIRECTORY SAVES KEEP

The checkpoint of step n holds the number n.
"""

# mypy: disable-error-code="import-not-found, import-untyped"
from __future__ import annotations

import os
import sys

import tensorflow.compat.v1 as tf


def main(directory: str, saves: int, keep: int) -> None:
    tf.disable_eager_execution()
    value = tf.placeholder(tf.float32, [])
    weight = tf.get_variable("w", [], use_resource=True)
    assign = weight.assign(value)
    saver = tf.train.Saver(max_to_keep=keep)
    os.makedirs(directory, exist_ok=True)
    with tf.Session() as session:
        for step in range(1, saves + 1):
            session.run(assign, {value: step})
            saver.save(session, os.path.join(directory, "model.ckpt"), global_step=step)


main(sys.argv[1], *map(int, sys.argv[2:]))
