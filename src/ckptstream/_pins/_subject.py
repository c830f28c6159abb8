"""The checkpoint that is to be pinned, and whether it is still the one that was delivered."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import lru_cache

from .._errors import CheckpointGone, PinUnsupported, UnknownLayout
from .._model import Checkpoint, is_url, printable
from .._stores import LocalStore, Profile, Snapshot, profile, shown
from ..layouts import Layout, judge, resolve


def layout_of(checkpoint: object, layout: str | Layout | None) -> Layout:
    """The layout by which a checkpoint is judged; refuses what can never be pinned."""
    if not isinstance(checkpoint, Checkpoint):
        remedy = "give one that follow() delivered"
        raise TypeError(f"ckpt={shown(checkpoint)} is no Checkpoint: {remedy}")
    if is_url(checkpoint.path):
        remedy = "an object store has no hard links; copy it while the trainer keeps it"
        raise PinUnsupported(checkpoint.path, remedy)
    if layout is not None:
        return resolve(layout)
    try:
        return resolve(checkpoint.layout)
    except UnknownLayout:
        raise ValueError(
            f"ckpt.layout={checkpoint.layout!r} is no layout of this package's: "
            "give your own, as pin(ckpt, layout=...)"
        ) from None


class Subject:
    """
    A checkpoint where it lies.

    Attributes:
        path: As the user knows it.
        name: Its name in the run's directory.
        run: The run's directory, without symbolic links on the way.
        profile: What can be trusted of the filesystem there.
    """

    def __init__(self, checkpoint: Checkpoint, layout: Layout, go_on: Callable[[], None]) -> None:
        self.path = checkpoint.path
        self.name = os.path.basename(checkpoint.path)
        self.run = os.path.realpath(checkpoint.run)
        self.profile = self._profile()
        self._checkpoint = checkpoint
        self._generation = checkpoint.generation
        self._layout = layout
        self._store = LocalStore(self.run, self.profile.inodes, go_on)
        self._verified: tuple[tuple[str, ...], _Delivered]

    def _profile(self) -> Profile:
        try:
            return _profile(self.run, os.stat(self.run).st_dev)
        except (FileNotFoundError, NotADirectoryError):
            raise self.gone("its run's directory was deleted") from None

    def verify(self) -> tuple[str, ...]:
        """
        Make sure that it is still what was delivered.

        Returns:
            Its names in the run's directory.

        Raises:
            CheckpointGone: If it is not.
            OSError: If it cannot be read.
        """
        members = self._members()
        if not members:
            raise self.gone("it was deleted")
        evidence = _Delivered(self._store, self.profile, members, self._generation)
        verdict = judge(self._layout, self.name, evidence)
        if verdict.missing is not None or verdict.generation is None:
            lacking = verdict.missing or "what tells its generation"
            raise self.gone(f"it is being deleted or written again ({lacking})")
        if str(verdict.generation) != self._generation:
            raise self.gone("it was written again: another generation is there")
        if not evidence.still():
            raise self.gone("it is being written again")
        self._verified = members, evidence
        return members

    def verify_again(self) -> tuple[str, ...]:
        """The same; cheaper while the files are the same that proved it: a layout says the same."""
        members, evidence = self._verified
        same = self._members() == members and evidence.is_current()
        return members if same else self.verify()

    def _members(self) -> tuple[str, ...]:
        match, found = self._layout.match, list[str]()
        for name in self._store.list(""):
            matched = match(name)
            if matched is not None and matched[0] == self.name:
                found.append(name)
        return tuple(found)

    def at(self, run: str) -> Checkpoint:
        """The same checkpoint in another directory."""
        return replace(self._checkpoint, path=os.path.join(run, self.name), run=run)

    def gone(self, found: str) -> CheckpointGone:
        """What to raise; *found* says what is there instead."""
        return CheckpointGone(self.path, printable(found))


@lru_cache(maxsize=1000)  # The kernel takes as long to list its mounts as to link 20 files.
def _profile(run: str, device: int) -> Profile:
    """*device* tells one filesystem from another that is mounted later in its place."""
    return profile(run)


class _Delivered(Snapshot):
    """
    `ckptstream.layouts.Evidence` of a checkpoint that was seen finished before.

    What only time or a pointer could prove was proved then: what is left to ask is whether the
    same generation is still there, and whole.
    """

    def __init__(
        self, store: LocalStore, profile: Profile, members: Collection[str], generation: str
    ) -> None:
        super().__init__(store)
        self.members = members
        self.rename_is_atomic = profile.rename
        self.named = True
        self.before = generation
        self.seen_unfinished = False

    def settled(self, *paths: str) -> bool:
        return all(self.stat(path) is not None for path in paths)
