"""Orbax's checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from ._files import VANISHING, is_directory, largest_file, newer_than, read_integer, read_json
from ._names import is_temporary
from ._protocol import Evidence

_STEP = re.compile(r"(?:.+_)?([0-9]+)", re.DOTALL)
_MARKER = "commit_success.txt"
_METADATA = "_CHECKPOINT_METADATA"
_STAMP = "commit_timestamp_nsecs"
_METADATA_LIMIT = 64 * 1024

_OF_ITEMS = ("_METADATA", "manifest.ocdbt", "_sharding")
_OF_STEPS = frozenset({_METADATA, _MARKER, "orbax.checkpoint", *_OF_ITEMS})
_OWN = (_MARKER, "_METADATA", "checkpoint", "manifest.ocdbt", "_sharding")
_OCDBT = re.compile(rb'"use_ocdbt"\s*:\s*true')
_DATA = frozenset({"d", "ocdbt_data", "ocdbt_meta"})
_PART = "ocdbt.process_"  # what one process has written
_ITEMS = 32  # how many names are looked at one level below: an Orbax step has few


@dataclass(frozen=True, slots=True)
class Orbax:
    """
    What Orbax writes, with `CheckpointManager`, `Checkpointer` and v1's `training.Checkpointer`.

    A checkpoint is a directory `1000`, `00001000` or `prefix_1000`. It is finished when it holds
    `commit_success.txt` (0.12.3 and later) or a commit stamp; without either file, when it came
    by a rename and has settled. In `COMMIT_FILE` mode, and in buckets, it fills up under its
    final name and the marker comes last; while it is being deleted it looks much the same. An
    upload may publish the marker first: where there is no atomic rename, the items that the
    metadata names and the files that tensorstore cannot do without must be there, too.

    Source: google/orbax `checkpoint/orbax/checkpoint/_src/path/{atomicity,step,deleter}.py`,
    `_src/metadata/step_metadata_serialization.py`, `CHANGELOG.md`.
    """

    def __str__(self) -> str:
        return "orbax: 1000/commit_success.txt"

    @property
    def name(self) -> str:
        """What `Checkpoint.layout` says."""
        return "orbax"

    def match(self, name: str) -> tuple[str, int | None] | None:
        """The directory itself; its step is the number at the end."""
        step = None if is_temporary(name) else _STEP.fullmatch(name)
        return None if step is None else (name, int(step[1]))

    def missing(self, name: str, evidence: Evidence) -> str | None:
        """The marker, else the commit stamp, else an atomic rename and settled files."""
        if not is_directory(name, evidence):
            return "not a directory"
        if self._vanishing(name, evidence):
            return VANISHING
        if evidence.stat(f"{name}/{_MARKER}") is not None:
            return None if evidence.rename_is_atomic else _unpublished(name, evidence)
        if evidence.stat(f"{name}/{_METADATA}") is not None:
            return _uncommitted(name, evidence)
        return _unsettled(name, evidence)

    def generation(self, name: str, evidence: Evidence) -> int | str | None:
        """The commit stamp, else the fingerprint of a file that only Orbax writes."""
        stamp = _stamp(name, evidence)
        if stamp is not None:
            return stamp
        own = next(_own_files(name, evidence), None) or largest_file(name, evidence)
        return None if own is None else evidence.fingerprint(own)

    def recognises(self, name: str, evidence: Evidence) -> bool:
        """
        Whether Orbax's own files are in the directory, or in its items' directories.

        A run directory called `seed_1` is none, though its checkpoints lie one level below.
        """
        if not _OF_STEPS.isdisjoint(evidence.list(name)):
            return True
        items = list(_items(name, evidence))
        if any(is_temporary(item) or _STEP.fullmatch(item) for item in items):
            return False
        return any(evidence.stat(f"{name}/{item}/{own}") for item in items for own in _OF_ITEMS)

    def _vanishing(self, name: str, evidence: Evidence) -> bool:
        # A deletion by several threads takes the metadata and the marker first. What is left must
        # not pass for an older Orbax's checkpoint; only a commit stamp proves another save.
        if evidence.before is None:
            return False
        generation = self.generation(name, evidence)
        return not isinstance(generation, int) and generation != evidence.before


def _stamp(name: str, evidence: Evidence) -> int | None:
    return read_integer(f"{name}/{_METADATA}", _STAMP, _METADATA_LIMIT, evidence)


def _uncommitted(name: str, evidence: Evidence) -> str | None:
    if _stamp(name, evidence) is None:
        return f"no commit stamp in {_METADATA}"
    if evidence.seen_unfinished:
        return f"no {_MARKER}"
    # Where a rename copies file by file, the metadata may have come before the data.
    if evidence.rename_is_atomic or evidence.settled(name):
        return None
    return f"no {_MARKER}: waits until its files have settled"


def _unsettled(name: str, evidence: Evidence) -> str | None:
    if not evidence.rename_is_atomic:
        return f"no {_MARKER}"
    if not evidence.list(name):
        return "empty"
    return None if evidence.settled(name) else "waits until its files have settled"


def _unpublished(name: str, evidence: Evidence) -> str | None:
    """What the marker says is there, and is not; else that what is there came after it."""
    metadata = read_json(evidence.head(f"{name}/{_METADATA}", _METADATA_LIMIT)) or {}
    handlers = metadata.get("item_handlers")
    named = list(cast("dict[str, object]", handlers)) if isinstance(handlers, dict) else []
    absent = next((item for item in named if item not in evidence.list(name)), None)
    if absent is not None:
        return f"no {absent}"
    items = [item for item in _items(name, evidence) if not item.startswith(_PART)]
    files = list[str]()
    for directory in (name, *(f"{name}/{item}" for item in items)):
        lacking = _lacking_array(directory, evidence)
        if lacking is not None:
            return f"no {lacking.removeprefix(f'{name}/')}"
        files += (f"{directory}/{file}" for file in evidence.list(directory))
    newer = newer_than(f"{name}/{_MARKER}", files, evidence)
    # Before Orbax wrote metadata there was nothing but the marker.
    if (newer is None and metadata) or evidence.settled(name):
        return None
    late = f"no {_METADATA}" if newer is None else f"{newer.rpartition('/')[2]} is newer"
    return f"{late}: waits until its files have settled"


def _lacking_array(directory: str, evidence: Evidence) -> str | None:
    """
    What lacks of the arrays in a directory, as tensorstore writes them for Orbax.

    How many processes have written a part, nothing says that can be read without tensorstore.

    Source: google/orbax `checkpoint/orbax/checkpoint/_src/serialization/tensorstore_utils.py`
    (`OcdbtKvStoreWriteOptions`), `ocdbt_utils.py` (`merge_ocdbt_per_process_files`).
    """
    names = {*evidence.list(directory)} - {_MARKER, _METADATA}
    if not names:
        return f"{directory}/*"
    if "manifest.ocdbt" in names:
        return f"{directory}/d" if _DATA.isdisjoint(names) else None
    tree = evidence.tail(f"{directory}/_METADATA", 4096) if "_METADATA" in names else None
    merged = _DATA.intersection(names) or any(name.startswith(_PART) for name in names)
    whole = not merged and _OCDBT.search(tree or b"") is None
    return None if whole else f"{directory}/manifest.ocdbt"


def _own_files(name: str, evidence: Evidence) -> Iterator[str]:
    """The files that only Orbax writes, the step's before its items'."""
    yield from _own_files_in(name, evidence)
    for item in _items(name, evidence):
        yield from _own_files_in(f"{name}/{item}", evidence)


def _own_files_in(directory: str, evidence: Evidence) -> Iterator[str]:
    for own in _OWN:
        stat = evidence.stat(f"{directory}/{own}")
        if stat is not None and not stat.is_directory:
            yield f"{directory}/{own}"


def _items(name: str, evidence: Evidence) -> Iterator[str]:
    for item in sorted(evidence.list(name))[:_ITEMS]:
        if is_directory(f"{name}/{item}", evidence):
            yield item
