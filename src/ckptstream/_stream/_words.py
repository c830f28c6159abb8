"""No silence: what a run waits for in plain words, and the log records that say so."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from .._model import PatternStatus, RunStatus, printable
from .._scan import Look, Trouble
from .._watchers import Watcher
from ._log import logger
from ._order import order
from ._pattern import Pattern
from ._run import Run
from .arguments import hint

# For `anyio.BusyResourceError`: "Another task is already ... this resource".
WAITING = (
    "waiting for a checkpoint (let one task ask, and hand them to the others; or give each a "
    "stream of its own) in"
)
_MANY = 3
_KEEP_MORE = "have the trainer keep more checkpoints"


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
    if look.foreign is not None and (look.foreign.below or not ledger.entries):
        return _strangers(run)
    pending = unfinished(run)
    newest = list(pending)[-1] if pending else None
    if newest is not None and not _is_overtaken(run, newest):
        return f"waiting for {newest}: {pending[newest]}"
    if ledger.queue.retrying:
        failed = next(iter(ledger.queue.retrying.values()))
        return f"waiting to deliver {failed.name} again, which has failed"
    if not ledger.entries:
        return "waiting for the first checkpoint"
    return "waiting for the next checkpoint"


def _is_overtaken(run: Run, name: str) -> bool:
    """Whether a later checkpoint was delivered: what is left of an aborted save is no news."""
    delivered = run.queue.delivered
    if delivered is None:
        return False
    return order(name, run.ledger.entries[name]) < order(delivered.name, delivered.entry)


def _strangers(run: Run) -> str:
    foreign = run.sight.look.foreign
    assert foreign is not None
    names = ", ".join(repr(name) for name in foreign.examples)
    total, below = foreign.total, foreign.below
    entries = "its only entry is not" if total == 1 else f"none of its {total} entries is"
    text = f"{entries} recognised as a checkpoint ({names})"
    if not below:
        return text
    hold = "1 sub-directory holds" if len(below) == 1 else f"{len(below)} sub-directories hold"
    name = below[0] if len(below) == 1 else "*"
    return f"{text}: {hold} checkpoints: follow {os.path.join(run.directory, name)!r}"


def _trouble(look: Look, seen: bool, path: str) -> str:
    if look.trouble is Trouble.MISSING:
        return "the directory is gone" if seen else f"the directory is not there yet{hint(path)}"
    if look.trouble is Trouble.BUSY:
        return Trouble.BUSY.value
    if look.trouble is Trouble.LOCKED:
        return look.detail
    return f"the directory cannot be read ({look.detail})"


def unfinished(run: Run) -> dict[str, str]:
    """What is not finished, without what was delivered and is now being deleted."""
    ledger = run.ledger
    names = [name for name in ledger.unfinished if not ledger.was_delivered(name)]
    names.sort(key=lambda name: order(name, ledger.entries[name]))
    return {name: ledger.entries[name].missing or "" for name in names}


def status_of(run: Run) -> RunStatus:
    """What is known of a run."""
    ledger, sight = run.ledger, run.sight
    newest = ledger.queue.delivered
    looked = sight.ended is not None
    return RunStatus(
        run=run.directory,
        watcher=sight.look.watcher if looked else None,
        watcher_reason=sight.look.reason if looked else "",
        last_look=None if sight.ended is None else time.monotonic() - sight.ended,
        newest=None if newest is None else newest.checkpoint(run.directory),
        queued=len(ledger.queue.waiting),
        waiting_for=waiting_for(run),
        unfinished=unfinished(run),
        missed=ledger.outcomes.missed,
        missed_count=ledger.outcomes.missed_count,
        skipped=ledger.queue.skipped,
        unanswered=run.flight.hangs,
        set_aside=ledger.outcomes.set_aside,
        retrying={each.name: each.reason for each in ledger.queue.retrying.values()},
        pinned=run.pinning.names,
    )


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
        return f"{_runs(count)}; {_parts(pattern.unreadable)}"
    if not count:
        yet = f" yet{hint(pattern.text)}"
        return f"no directory matches{'' if pattern.matched else yet}"
    return _runs(count)


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _parts(unreadable: Mapping[str, str]) -> str:
    first, *others = unreadable.values()
    more = f" and {len(others)} more" if others else ""
    return f"a part cannot be read ({first}){more}"


def status_of_pattern(pattern: Pattern) -> PatternStatus:
    """What is known of a pattern."""
    look, ended = pattern.look, pattern.ended
    return PatternStatus(
        pattern=pattern.text,
        runs=len(pattern),
        watcher=None if ended is None else look.watcher,
        watcher_reason="" if ended is None else look.reason,
        last_look=None if ended is None else time.monotonic() - ended,
        waiting_for=pattern_waits_for(pattern),
        unanswered=pattern.flight.hangs,
    )


def report_pattern(pattern: Pattern) -> None:
    """Log why no run comes of it; each that comes or goes is a record of its own."""
    hangs = pattern.flight.hangs is not None
    if hangs or not len(pattern) or pattern.look.trouble is not None:
        reason = pattern_waits_for(pattern)
    else:
        reason = _parts(pattern.unreadable) if pattern.unreadable else ""
    if reason in {pattern.told, ""}:
        pattern.told = reason
        return
    pattern.told = reason
    text = printable(pattern.text)
    logger.info("%s: %s", text, printable(reason))
    if hangs:
        logger.warning("%s: %s; other runs go on: check the mount", text, printable(reason))
    elif pattern.look.trouble is not None:
        detail = pattern.look.detail or "it is waited for"
        logger.warning("%s: %s: check the path, %s", text, printable(reason), printable(detail))
    elif pattern.unreadable:
        logger.warning("%s: %s: check its permissions and its mount", text, printable(reason))
    elif pattern.ended is not None and not pattern.matched:
        logger.warning("%s: %s: if there should be some, check the pattern", text, reason)


def report(run: Run) -> None:
    """
    Log what is new: nobody calls `status()` while blocked in `async for`.

    Each new reason for waiting is one INFO record; what needs a person is one WARNING.
    """
    told, look = run.told, run.sight.look
    waits = run.queue.candidate() is None or run.pinning.blocks
    if run.flight.hangs is not None or look.trouble is not None or waits:
        reason = waiting_for(run)
        if reason != told.reason:
            told.reason = reason
            logger.info("%s: %s", printable(run.directory), printable(reason))
            _warn(run, reason)
    report_missed(run)


def report_limit(limit: str, path: str, watcher: Watcher) -> None:
    """Say that the kernel refuses to watch more; once for all streams of an event loop."""
    if limit not in watcher.told:
        watcher.told.add(limit)
        text = "%s: %s is exhausted: polling instead; %s"
        logger.warning(text, printable(path), limit, "raise it with sysctl")


def _warn(run: Run, reason: str) -> None:
    look, layout = run.sight.look, run.options.layout.name
    if run.flight.hangs is not None:
        _once(run, f"{reason}; other runs go on: {run.location.check[1]}")
    elif look.trouble is Trouble.MISSING:
        _once(run, f"{reason}: check the path, {look.detail}")
    elif look.trouble is Trouble.BUSY:
        _once(run, f"{reason}: it joins when that one is closed, or give this one its own cursor")
    elif look.trouble is Trouble.LOCKED:
        pass  # Soon it answers, or raises.
    elif look.trouble is not None:
        _once(run, f"{reason}: it is waited for; {run.location.check[0]}")
    elif run.pinning.blocks:
        _once(run, f"{reason}: it is tried again, and not delivered before", "pins")
    elif look.foreign is not None and look.foreign.below:
        _once(run, reason, "a level too high")
    elif look.foreign is not None and not run.ledger.entries:
        other = "layout='auto'" if layout != "auto" else "one such as layout='step_{step}/DONE'"
        _once(
            run,
            f"{reason}: if it holds some already, try {other} or another directory",
            "strangers",
        )
    else:
        _warn_of_entries(run)


def _warn_of_entries(run: Run) -> None:
    ledger, reasons = run.ledger, unfinished(run)
    for name, reason in reasons.items():
        if reason.startswith("cannot be read"):
            _once(run, f"{name} {reason}: it is waited for; {run.location.check[0]}")
    # One is being written; that several are, and none is finished, is the wrong evidence.
    if len(reasons) > 1 and len(reasons) == len(ledger.entries) and not ledger.holding:
        name, reason = next(iter(reasons.items()))
        _once(
            run,
            f"{len(reasons)} checkpoints, none of them finished ({name}: {reason}): "
            f"is layout={run.options.layout.name!r} right?",
        )


def _once(run: Run, text: str, about: str | None = None) -> None:
    """Warn, once of each thing; *about*: what the thing is, if the text may change."""
    about = text if about is None else about
    if about not in run.told.warned:
        run.told.warned |= {about}
        logger.warning("%s: %s", printable(run.directory), printable(text))


def report_missed(run: Run) -> None:
    """Say what was missed since this was called last."""
    ledger, told = run.ledger, run.told
    new, told.missed = ledger.outcomes.missed_count - told.missed, ledger.outcomes.missed_count
    if new <= 0:
        return
    for missed in ledger.outcomes.missed[-new:][:_MANY]:
        if missed.finished:
            how = "it was finished, but deleted or overwritten before it could be delivered"
            logger.warning("%s: missed, %s; %s", printable(missed.path), how, _KEEP_MORE)
        else:
            how = "it was deleted before it was seen finished; it may have been an aborted save"
            logger.warning("%s: missed, %s", printable(missed.path), how)
    if new > _MANY:
        text = "%s: %d more were missed; %s"
        logger.warning(text, printable(run.directory), new - _MANY, _KEEP_MORE)


def report_left(run: Run) -> None:
    """Say that a run has left its pattern, and what of it was missed."""
    logger.info("%s: has left: its directory is gone", printable(run.directory))
    report_missed(run)


def report_end(run: Run) -> None:
    """Say what was finished but could not be delivered, since the storage did not answer."""
    report(run)
    if run.exhausted and run.queue.candidate() is not None:
        count, reason = len(run.queue.waiting), waiting_for(run)
        text = "%s: %d finished checkpoints were not delivered: %s"
        logger.warning(text, printable(run.directory), count, printable(reason))
