"""What a framework does to save one checkpoint, and to save one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from .._errors import UnknownLayout
from ._operation import Operation, Save
from ._orders import BUILT_IN, template


def operations(
    step: int,
    layout: str = "hf",
    *,
    earlier: Sequence[int] = (),
    keep: int | None = None,
    shards: int = 1,
    shard_bytes: int = 4096,
) -> Iterator[Operation]:
    """
    What a framework does to the disk to save one checkpoint, in its own order.

    A file that grows under its final name takes two operations, so that a test can stop between
    any two and find there what a crash, or a look at a bad moment, would find.

    Args:
        step: The checkpoint's number.
        layout: The name of any built-in layout but `"auto"`, such as `"hf"` or `"megatron"`; or a
            template: `"ckpt_{step}.pt"`, `"step_{step}/DONE"`.
        earlier: The steps saved before and not deleted yet, the oldest first.
        keep: How many checkpoints are left after this one is saved; None keeps all.
        shards: In how many files the weights are, where the framework can have several.
        shard_bytes: The size of each of them, without its header.

    Raises:
        UnknownLayout: If the layout is neither.
        ValueError: If another argument makes no sense.
    """
    check(layout, step=step, keep=keep, shards=shards, shard_bytes=shard_bytes)
    others = tuple(other for other in earlier if other != step)
    dropped = others[: max(0, len(others) + 1 - keep)] if keep is not None else ()
    save = Save(step, others, dropped, step in earlier, shards, shard_bytes)
    built_in = BUILT_IN.get(layout)
    return built_in(save) if built_in is not None else template(layout, save)


def name_of(step: int, layout: str, shards: int = 1) -> str:
    """What a checkpoint is called when it is finished."""
    saving = operations(step, layout, shards=shards, shard_bytes=1)
    return next(operation.finishes for operation in saving if operation.finishes is not None)


class Training:
    """
    What a trainer does, step after step, and what it has kept.

    Args:
        layout: As `operations` has it, as have the others.
        keep: How many checkpoints stay on disk; None keeps all.
        shards: In how many files the weights are.
        shard_bytes: The size of each of them.

    Raises:
        ValueError: If an argument makes no sense.
    """

    def __init__(self, layout: str, *, keep: int | None, shards: int, shard_bytes: int) -> None:
        check(layout, keep=keep, shards=shards, shard_bytes=shard_bytes)
        self._layout = layout
        self._keep = keep
        self._shards = shards
        self._shard_bytes = shard_bytes
        self._kept: list[int] = []

    def name(self, step: int) -> str:
        """What the checkpoint of a step is called."""
        return name_of(step, self._layout, self._shards)

    def save(self, step: int, crash_after: int | None = None) -> Iterator[Operation]:
        """
        The operations that save a step; each counts as done when the next one is asked for.

        Args:
            step: Any number, also one that was saved before.
            crash_after: How many operations are done; None does all.
        """
        check(self._layout, step=step, crash_after=crash_after)
        saving = operations(
            step,
            self._layout,
            earlier=self._kept,
            keep=self._keep,
            shards=self._shards,
            shard_bytes=self._shard_bytes,
        )
        for operation in islice(saving, crash_after):
            yield operation
            if operation.finishes is not None:
                self._kept = [*(kept for kept in self._kept if kept != step), step]
        # What a crash has left there is deleted with the next checkpoint.
        if self._keep is not None and next(saving, None) is None:
            del self._kept[: -self._keep]


def check(layout: str, *, step: int = 0, **numbers: int | None) -> None:
    """Raise if something makes no sense; *numbers* are 1 or more, or not given."""
    if layout not in BUILT_IN and "{step}" not in layout.partition("/")[0]:
        raise UnknownLayout(layout, tuple(BUILT_IN))
    if step < 0:
        raise ValueError(f"step={step!r} is no step: use 0 or more")
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{name}={number!r} is too few: use 1 or more")
