"""The log records that say what a run waits for: nobody calls `status()` in an `async for`."""

from __future__ import annotations

from .._model import printable
from .._watchers import Watcher
from ._log import logger
from ._pattern import Pattern
from ._remedies import KEEP_MORE, Remedy, remedies, remedy_of_pattern
from ._run import Run
from ._words import pattern_waits_for, unreadable_parts, waiting_for

_MANY = 3


def report_pattern(pattern: Pattern) -> None:
    """Log why no run comes of it; each that comes or goes is a record of its own."""
    if pattern.flight.hangs is not None or not len(pattern) or pattern.look.trouble is not None:
        reason = pattern_waits_for(pattern)
    else:
        reason = unreadable_parts(pattern.unreadable) if pattern.unreadable else ""
    if reason in {pattern.told, ""}:
        pattern.told = reason
        return
    pattern.told = reason
    text, remedy = printable(pattern.text), remedy_of_pattern(pattern)
    logger.info("%s: %s", text, printable(reason))
    if remedy is not None and str(remedy) not in pattern.warned:
        pattern.warned.add(str(remedy))
        logger.warning("%s: %s", text, printable(str(remedy)))


def report(run: Run) -> None:
    """
    Log what is new: nobody calls `status()` while blocked in `async for`.

    Each new reason for waiting is one INFO record; what needs a person is one WARNING.
    """
    told, look = run.told, run.sight.look
    waits = run.queue.candidate() is None or run.pinning.blocks
    if run.flight.hangs is not None or look.trouble is not None or waits:
        reason, told.waits = waiting_for(run), True
        if reason != told.reason:
            told.reason = reason
            logger.info("%s: %s", printable(run.directory), printable(reason))
        for remedy in remedies(run):
            _once(run, remedy)
    report_missed(run)


def report_limit(limit: str, path: str, watcher: Watcher) -> None:
    """Say that the kernel refuses to watch more; once for all streams of an event loop."""
    if limit not in watcher.told:
        watcher.told.add(limit)
        text = "%s: %s is exhausted: polling instead; %s"
        logger.warning(text, printable(path), limit, "raise it with sysctl")


def _once(run: Run, remedy: Remedy) -> None:
    """Warn, once of each thing."""
    about = remedy.about or str(remedy)
    if about not in run.told.warned:
        run.told.warned |= {about}
        logger.warning("%s: %s", printable(run.directory), printable(str(remedy)))


def report_missed(run: Run) -> None:
    """Say what was missed since this was called last."""
    ledger, told = run.ledger, run.told
    new, told.missed = ledger.outcomes.missed_count - told.missed, ledger.outcomes.missed_count
    if new <= 0:
        return
    for missed in ledger.outcomes.missed[-new:][:_MANY]:
        if missed.finished:
            how = "it was finished, but deleted or overwritten before it could be delivered"
            logger.warning("%s: missed, %s; %s", printable(missed.path), how, KEEP_MORE)
        else:
            how = "it was deleted before it was seen finished; it may have been an aborted save"
            logger.warning("%s: missed, %s", printable(missed.path), how)
    if new > _MANY:
        text = "%s: %d more were missed; %s"
        logger.warning(text, printable(run.directory), new - _MANY, KEEP_MORE)


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
