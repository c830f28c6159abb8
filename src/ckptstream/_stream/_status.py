"""What is known of a stream's runs and patterns, as a value for the user."""

from __future__ import annotations

import time

from .._model import PatternStatus, RunStatus, Status
from ._pattern import Pattern
from ._remedies import advice, remedy_of_pattern
from ._roster import Roster
from ._run import Run
from ._words import pattern_waits_for, unfinished, waiting_for


def status_of(roster: Roster, ended: str | None) -> Status:
    """What is known of all of them; *ended*: why the stream has ended, if it has."""
    runs, patterns = map(_status_of_run, roster.shown()), map(_status_of_pattern, roster.patterns)
    return Status(tuple(runs), ended, tuple(patterns))


def _status_of_run(run: Run) -> RunStatus:
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
        remedies=advice(run),
        requests_last_hour=run.requests,
        recognised=dict(sight.look.recognised),
    )


def _status_of_pattern(pattern: Pattern) -> PatternStatus:
    look, ended, remedy = pattern.look, pattern.ended, remedy_of_pattern(pattern)
    return PatternStatus(
        pattern=pattern.text,
        runs=len(pattern),
        watcher=None if ended is None else look.watcher,
        watcher_reason="" if ended is None else look.reason,
        last_look=None if ended is None else time.monotonic() - ended,
        waiting_for=pattern_waits_for(pattern),
        unanswered=pattern.flight.hangs,
        remedies=() if remedy is None else (remedy.advice,),
        requests_last_hour=pattern.requests,
    )
