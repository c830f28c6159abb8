"""Programs of one's own."""

from __future__ import annotations

import os
from collections.abc import Iterator

from .._contents import content, weight_names
from .._operation import Operation, Save, grow


def template(layout: str, save: Save) -> Iterator[Operation]:
    """One file, or a directory with a marker that is written last, as `layout` says."""
    entry, _, marker = layout.partition("/")
    name = entry.replace("{step}", str(save.step))
    yield Operation("mkdir", "")
    if not marker:
        yield from grow(name, content(name, save.step, save.shard_bytes), finishes=name)
    else:
        marker = f"{name}/{marker}".replace("{step}", str(save.step))
        yield Operation("mkdir", os.path.dirname(marker))
        for file in weight_names(save.shards):
            yield from grow(f"{name}/{file}", content(file, save.step, save.shard_bytes))
        yield Operation("write", marker, finishes=name)
    for step in save.dropped:
        old = entry.replace("{step}", str(step))
        yield Operation("rmtree" if marker else "remove", old)
