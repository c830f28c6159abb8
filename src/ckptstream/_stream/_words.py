"""No silence: what a run and a pattern wait for, in plain words."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .._model import is_url
from .._scan import Foreign, Look, Trouble
from ._order import order
from ._pattern import Pattern
from ._run import Run
from .places import hint

# For `anyio.BusyResourceError`: "Another task is already ... this resource".
WAITING = (
    "waiting for a checkpoint (let one task ask, and hand them to the others; or give each a "
    "stream of its own) in"
)


def waiting_for(run: Run) -> str:
    """What a run waits for, in words that do not change while nothing changes."""
    look, ledger = run.sight.look, run.ledger
    if run.flight.hangs is not None:
        return "the storage does not answer"
    if run.left:
        return "the directory is gone"
    if run.sight.ended is None:
        return "waiting for the first look"
    if look.trouble is not None:
        return _trouble(look, run.ledger.looked, run.directory)
    head = ledger.queue.candidate()
    if head is not None and run.pinning.blocks:
        return f"waiting to pin {head.name}: {run.pinning.reason or 'the storage does not answer'}"
    if head is not None:
        silence = None if ledger.outcomes.progress is None else ledger.outcomes.progress.silence
        return silence or "finished checkpoints wait to be delivered"
    if ledger.queue.awaits_pointer:
        return f"waiting for the pointer to name {next(reversed(ledger.queue.waiting))}"
    if look.foreign is not None and (look.foreign.another_level or not ledger.entries):
        return _strangers(run.directory, look.foreign)
    if ledger.queue.blocked is not None:
        name, before = ledger.queue.blocked
        return f"waiting for {before}, which comes before {name}: {ledger.entries[before].missing}"
    pending = unfinished(run)
    newest = list(pending)[-1] if pending else None
    if newest is not None and not _is_overtaken(run, newest):
        return f"waiting for {newest}: {pending[newest]}"
    if ledger.queue.retrying:
        failed = next(iter(ledger.queue.retrying.values()))
        return f"waiting to deliver {failed.name} again, which has failed"
    if ledger.queue.reached:
        return "until_step was reached"
    return f"waiting for the {'next' if ledger.entries else 'first'} checkpoint"


def _is_overtaken(run: Run, name: str) -> bool:
    """Whether a later checkpoint was delivered: what is left of an aborted save is no news."""
    delivered = run.queue.delivered
    if delivered is None:
        return False
    return order(name, run.ledger.entries[name]) < order(delivered.name, delivered.entry)


def _strangers(directory: str, foreign: Foreign) -> str:
    if foreign.itself is not None:
        layout, above = foreign.itself
        return f"it looks like a checkpoint of {layout} itself: follow {above!r}"
    names = ", ".join(repr(name) for name in foreign.examples)
    total, below = foreign.total, foreign.below
    entries = "its only entry is not" if total == 1 else f"none of its {total} entries is"
    text = f"{entries} recognised as a checkpoint ({names})"
    if not below:
        return text
    hold = "1 sub-directory holds" if len(below) == 1 else f"{len(below)} sub-directories hold"
    name = below[0] if len(below) == 1 else "*"
    return f"{text}: {hold} checkpoints: follow {os.path.join(directory, name)!r}"


def _trouble(look: Look, seen: bool, path: str) -> str:
    place = "the prefix" if is_url(path) else "the directory"
    if look.trouble is Trouble.MISSING:
        return f"{place} is gone" if seen else f"{place} is not there yet{hint(path)}"
    if look.trouble is Trouble.BUSY:
        return Trouble.BUSY.value
    if look.trouble is Trouble.LOCKED:
        return look.detail
    return f"{place} cannot be read ({look.detail})"


def unfinished(run: Run) -> dict[str, str]:
    """What is not finished, without what was delivered and is now being deleted."""
    ledger = run.ledger
    names = [name for name in ledger.unfinished if ledger.is_awaited(name)]
    names.sort(key=lambda name: order(name, ledger.entries[name]))
    return {name: ledger.entries[name].missing or "" for name in names}


def pattern_waits_for(pattern: Pattern) -> str:
    """What a pattern waits for."""
    look = pattern.look
    if pattern.flight.hangs is not None:
        return "the storage does not answer"
    if pattern.ended is None:
        return "waiting for the first look"
    if look.trouble is not None:
        return _trouble(look, pattern.matched, pattern.text)
    count = len(pattern)
    if pattern.unreadable:
        return f"{_runs(count)}; {unreadable_parts(pattern.unreadable)}"
    if not count:
        yet = f" yet{hint(pattern.text)}"
        return f"no directory matches{'' if pattern.matched else yet}"
    return _runs(count)


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def unreadable_parts(unreadable: Mapping[str, str]) -> str:
    """Why some of what a pattern may match cannot be looked into."""
    first, *others = unreadable.values()
    more = f" and {len(others)} more" if others else ""
    return f"a part cannot be read ({first}){more}"
