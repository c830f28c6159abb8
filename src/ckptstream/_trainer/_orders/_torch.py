"""What PyTorch and what is nearest to it writes."""

from __future__ import annotations

from collections.abc import Iterator

from .._contents import content, dcp_metadata
from .._operation import Operation, Save, erase, grow, link


def torch_save(save: Save) -> Iterator[Operation]:
    """A loop around `torch.save`: the file grows under its final name, its directory comes last."""
    yield from _file(f"ckpt_{save.step}.pt", save)
    for step in save.dropped:
        yield Operation("remove", f"ckpt_{step}.pt")


def dcp(save: Save) -> Iterator[Operation]:
    """PyTorch's distributed checkpoints: all ranks' files, then `.metadata`, by a rename."""
    yield from distributed(f"step_{save.step}", save, finishes=f"step_{save.step}")
    for step in save.dropped:
        yield from erase(f"step_{step}", "__0_0.distcp")


def torchtitan(save: Save) -> Iterator[Operation]:
    """torchtitan: what PyTorch's distributed checkpoints do, and a thread that deletes."""
    yield from distributed(f"step-{save.step}", save, finishes=f"step-{save.step}")
    for step in save.dropped:
        yield from erase(f"step-{step}", "__0_0.distcp")


def lightning(save: Save) -> Iterator[Operation]:
    """
    Lightning's `ModelCheckpoint`, with the temporary directory on another filesystem.

    So the rename that ends a save is a copy, which grows under the final name. In several shards it
    is what `FSDPStrategy` writes: a directory, in which the first rank's `meta.pt` comes last.
    """
    name = _lightning_name(save.step)
    if save.shards == 1:
        yield from _file(name, save)
    else:
        yield from distributed(name, save)
        yield from grow(f"{name}/meta.pt", content("meta.pt", save.step, 64), finishes=name)
    for step in save.dropped:
        old = _lightning_name(step)
        yield from ([Operation("remove", old)] if save.shards == 1 else erase(old, "__0_0.distcp"))


def composer(save: Save) -> Iterator[Operation]:
    """
    Composer: a file that grows in place, then the link to the latest, then the deletion.

    In several shards it is a directory, written as PyTorch's distributed checkpoints are.
    """
    rank = "-rank0.pt" if save.shards == 1 else ""
    name = f"ep0-ba{save.step}{rank}"
    if save.shards == 1:
        yield from _file(name, save)
    else:
        yield from distributed(name, save, finishes=name)
    yield from link(f"latest-rank0{'.pt' if rank else ''}", name)
    for step in save.dropped:
        old = f"ep0-ba{step}{rank}"
        yield from ([Operation("remove", old)] if rank else erase(old, ".metadata"))


def fairseq(save: Save) -> Iterator[Operation]:
    """fairseq: renamed under its first name, then copied to `checkpoint_last.pt` in place."""
    name = f"checkpoint_1_{save.step}.pt"
    data = content(name, save.step, save.shard_bytes)
    yield Operation("mkdir", "")
    yield from grow(f"{name}.tmp", data)
    yield Operation("rename", f"{name}.tmp", target=name, finishes=name)
    yield from grow("checkpoint_last.pt", data)
    for step in save.dropped:
        yield Operation("remove", f"checkpoint_1_{step}.pt")


def distributed(name: str, save: Save, finishes: str | None = None) -> Iterator[Operation]:
    """
    What `torch.distributed.checkpoint.save` does in a directory.

    What lies there is written over, and its `.metadata` stays until the new one is ready.
    """
    yield Operation("mkdir", name)
    yield from rank_files(name, save)
    yield from grow(f"{name}/.metadata.tmp", dcp_metadata(save.step, rank_names(save)))
    yield Operation("remove", f"{name}/.metadata")
    renamed = f"{name}/.metadata"
    yield Operation("rename", f"{name}/.metadata.tmp", target=renamed, finishes=finishes)


def rank_files(name: str, save: Save) -> Iterator[Operation]:
    """Each rank's file: all are there before the first is whole."""
    files = [f"{name}/{file}" for file in rank_names(save)]
    data = content(files[0], save.step, save.shard_bytes)
    half = len(data) // 2
    yield from (Operation("write", file, data[:half]) for file in files)
    yield from (Operation("append", file, data[half:]) for file in files)


def rank_names(save: Save) -> list[str]:
    """What they are called."""
    return [f"__{rank}_0.distcp" for rank in range(save.shards)]


def _lightning_name(step: int) -> str:
    return f"epoch=0-step={step}.ckpt"


def _file(name: str, save: Save) -> Iterator[Operation]:
    yield Operation("mkdir", "")
    yield from grow(name, content(name, save.step, save.shard_bytes), finishes=name)
