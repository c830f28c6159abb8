"""
PyTorch DCP, two processes with gloo: python dcp.py DIRECTORY NAME SAVES KEEP

NAME holds `{step}`; KEEP 0 keeps all. The checkpoint of step n holds the number n; the last one is
saved again in place, with half a step more, when a line of standard input, or its end, has come.
"""

# mypy: disable-error-code="import-not-found, import-untyped, unused-ignore"
from __future__ import annotations

import os
import shutil
import sys
import tempfile
from multiprocessing.synchronize import Event

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp

RANKS = 2


def work(
    rank: int, go: Event, rendezvous: str, directory: str, name: str, saves: int, keep: int
) -> None:
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=RANKS)
    for number in [*range(1, saves + 1), saves + 0.5]:
        if number > saves:
            go.wait()
        step = int(number)
        state = {f"w{rank}": torch.full((64,), float(number))}
        dcp.save(state, checkpoint_id=os.path.join(directory, name.format(step=step)))
        old = os.path.join(directory, name.format(step=step - keep))
        if keep and rank == 0:
            shutil.rmtree(old, ignore_errors=True)
        dist.barrier()
    dist.destroy_process_group()


def main(directory: str, name: str, saves: int, keep: int) -> None:
    with tempfile.TemporaryDirectory() as rendezvous:
        go = mp.get_context("spawn").Event()
        arguments = (go, f"{rendezvous}/store", directory, name, saves, keep)
        ranks = mp.start_processes(work, arguments, RANKS, join=False, start_method="spawn")
        sys.stdin.readline()
        go.set()
        while not ranks.join():
            pass


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
