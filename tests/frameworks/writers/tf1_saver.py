"""
TensorFlow 1's Saver: python tf1_saver.py DIRECTORY SAVES KEEP [again]

The checkpoint of step n holds the number n. `again` saves the last one over the old one, with half
a step more, when a line of standard input, or its end, has come.
"""

# mypy: disable-error-code="import-not-found, import-untyped"
from __future__ import annotations

import os
import sys

import tensorflow.compat.v1 as tf


def main(directory: str, saves: int, keep: int, again: bool) -> None:
    tf.disable_eager_execution()
    value = tf.placeholder(tf.float32, [])
    weight = tf.get_variable("w", [], use_resource=True)
    assign = weight.assign(value)
    saver = tf.train.Saver(max_to_keep=keep)
    os.makedirs(directory, exist_ok=True)
    with tf.Session() as session:
        for number in [*range(1, saves + 1), *([saves + 0.5] if again else [])]:
            if number > saves:
                sys.stdin.readline()
            session.run(assign, {value: number})
            saver.save(session, os.path.join(directory, "model.ckpt"), global_step=int(number))


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:] == ["again"])
