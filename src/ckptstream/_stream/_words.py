"""No silence: what a run waits for in plain words, and the log records that say so."""

from __future__ import annotations

import logging
import time

from .._model import RunStatus, printable
from .._scan import Trouble
from ._run import Run

logger = logging.getLogger("ckptstream.stream")

_MANY = 3
_KEEP_MORE = "have the trainer keep more checkpoints"


def waiting_for(run: Run) -> str:
    """What a run waits for, in words that do not change while nothing changes."""
    look, ledger = run.sight.look, run.ledger
    if run.hangs is not None:
        return "the storage does not answer"
    if run.sight.ended is None:
        return "waiting for the first look"
    if look.trouble is not None:
        return _trouble(run)
    if ledger.candidate() is not None:
        return "finished checkpoints wait to be delivered"
    if ledger.queue and not ledger.holding:
        return f"waiting for the pointer to name {next(reversed(ledger.queue))}"
    if pending := unfinished(run):
        name, missing = list(pending.items())[-1]
        return f"waiting for {name}: {missing}"
    if look.foreign is not None and not ledger.entries:
        names = ", ".join(repr(name) for name in look.foreign.examples)
        count = look.foreign.total
        entries = "its only entry is not" if count == 1 else f"none of its {count} entries is"
        return f"{entries} recognised as a checkpoint ({names})"
    if not ledger.entries:
        return "waiting for the first checkpoint"
    return "waiting for the next checkpoint"


def _trouble(run: Run) -> str:
    look = run.sight.look
    if look.trouble is Trouble.MISSING:
        return "the directory is gone" if run.ledger.looked else "the directory is not there yet"
    return f"the directory cannot be read ({look.detail})"


def unfinished(run: Run) -> dict[str, str]:
    """What is not finished, without what was delivered and is now being deleted."""
    ledger = run.ledger
    names = (name for name in ledger.unfinished if not ledger.was_delivered(name))
    return {name: ledger.entries[name].missing or "" for name in names}


def status_of(run: Run) -> RunStatus:
    """What is known of a run."""
    ledger, sight = run.ledger, run.sight
    newest = ledger.delivered
    looked = sight.ended is not None
    return RunStatus(
        run=run.directory,
        watcher=sight.look.watcher if looked else None,
        watcher_reason=sight.look.reason if looked else "",
        last_look=None if sight.ended is None else time.monotonic() - sight.ended,
        newest=None if newest is None else newest.checkpoint(run.directory),
        queued=len(ledger.queue),
        waiting_for=waiting_for(run),
        unfinished=unfinished(run),
        missed=tuple(ledger.missed),
        missed_count=ledger.missed_count,
        skipped=ledger.skipped,
        unanswered=run.hangs,
    )


def report(run: Run) -> None:
    """
    Log what is new: nobody calls `status()` while blocked in `async for`.

    Each new reason for waiting is one INFO record; what needs a person is one WARNING.
    """
    told, look = run.told, run.sight.look
    if run.hangs is not None or look.trouble is not None or run.ledger.candidate() is None:
        reason = waiting_for(run)
        if reason != told.reason:
            told.reason = reason
            logger.info("%s: %s", printable(run.directory), printable(reason))
            _warn(run, reason)
    _report_missed(run)
    if look.out_of is not None:
        _once(run, f"{look.out_of} is exhausted: polling instead; raise it with sysctl")


def _warn(run: Run, reason: str) -> None:
    look = run.sight.look
    if run.hangs is not None:
        _once(run, f"{reason}; other runs go on: check the mount")
    elif look.trouble is Trouble.MISSING:
        _once(run, f"{reason}: it is waited for; check the path")
    elif look.trouble is not None:
        _once(run, f"{reason}: it is waited for; check its permissions and its mount")
    elif look.foreign is not None and (look.foreign.below or not run.ledger.entries):
        _once(run, f"{reason}: {_remedy(run)}")
    else:
        _warn_of_entries(run)


def _warn_of_entries(run: Run) -> None:
    reasons = {name: run.ledger.entries[name].missing or "" for name in run.ledger.unfinished}
    for name, reason in reasons.items():
        if reason.startswith("cannot be read"):
            _once(run, f"{name} {reason}: it is waited for; check its permissions and its mount")


def _remedy(run: Run) -> str:
    foreign = run.sight.look.foreign
    if foreign is None or not foreign.below:
        return "name the layout, such as layout='step_{step}/DONE', or another directory"
    example = run.directory.rstrip("/") + "/" + foreign.below[0]
    count = len(foreign.below)
    holds = "1 sub-directory holds" if count == 1 else f"{count} sub-directories hold"
    return f"{holds} checkpoints: follow {example!r}"


def _once(run: Run, text: str) -> None:
    if text not in run.told.warned:
        run.told.warned += (text,)
        logger.warning("%s: %s", printable(run.directory), printable(text))


def _report_missed(run: Run) -> None:
    ledger, told = run.ledger, run.told
    new, told.missed = ledger.missed_count - told.missed, ledger.missed_count
    if new <= 0:
        return
    for missed in list(ledger.missed)[-new:][:_MANY]:
        if missed.finished:
            how = "it was finished, but deleted or overwritten before it could be delivered"
        else:
            how = "it was deleted before it was seen finished"
        logger.warning("%s: missed, %s; %s", printable(missed.path), how, _KEEP_MORE)
    if new > _MANY:
        text = "%s: %d more were missed; %s"
        logger.warning(text, printable(run.directory), new - _MANY, _KEEP_MORE)
