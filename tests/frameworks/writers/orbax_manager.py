"""
Orbax: python orbax_manager.py DIRECTORY SAVES KEEP {ATOMIC_RENAME,COMMIT_FILE} {0,1}

KEEP 0 keeps all; the last argument says whether it saves in the background. The checkpoint of
step n holds the number n.
"""

# mypy: disable-error-code="import-not-found, import-untyped"
from __future__ import annotations

import sys

import numpy as np
import orbax.checkpoint as ocp


def main(directory: str, saves: int, keep: int, mode: str, background: bool) -> None:
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep or None,
        enable_async_checkpointing=background,
        atomicity_options=ocp.options.AtomicityOptions(mode=ocp.options.AtomicityMode[mode]),
    )
    with ocp.CheckpointManager(directory, options=options) as manager:
        for step in range(1, saves + 1):
            manager.save(step, args=ocp.args.StandardSave({"w": np.full(64, float(step))}))


main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5] == "1")
