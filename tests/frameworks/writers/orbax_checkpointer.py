"""
Orbax without a manager: python orbax_checkpointer.py DIRECTORY SAVES

The last step is saved twice, with `force=True`. The checkpoint of step n holds the number n.
"""

# mypy: disable-error-code="import-not-found, import-untyped, unused-ignore"
from __future__ import annotations

import os
import sys

import numpy as np
import orbax.checkpoint as ocp


def main(directory: str, saves: int) -> None:
    with ocp.StandardCheckpointer() as checkpointer:
        for step in [*range(1, saves + 1), saves]:
            state = {"w": np.full(64, float(step))}
            checkpointer.save(os.path.join(directory, str(step)), state, force=True)
            checkpointer.wait_until_finished()


main(sys.argv[1], int(sys.argv[2]))
