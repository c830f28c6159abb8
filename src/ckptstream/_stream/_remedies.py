"""What needs a person, and what that person can do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .._scan import Look, Stranger, Trouble
from ._pattern import Pattern
from ._run import Run
from ._words import pattern_waits_for, unfinished, unreadable_parts, waiting_for

KEEP_MORE = "have the trainer keep more checkpoints, or pin them: pin=True"
_MANY = 3
_OWN_LAYOUT = "one such as layout='step_{step}/DONE'"


class Remedy(NamedTuple):
    """
    What needs a person, in words.

    Attributes:
        problem: What is wrong.
        advice: What to do; empty if the problem says so itself.
        about: What it is said of once, if the words may change.
        whose: The checkpoint that it is about, if it is one.
    """

    problem: str
    advice: str = ""
    about: str = ""
    whose: str = ""

    def __str__(self) -> str:
        return f"{self.problem}: {self.advice}" if self.advice else self.problem


def advice(run: Run) -> tuple[str, ...]:
    """What a person can do about a run, for its status: also what the log says in other words."""
    found = [
        f"{each.whose}: {each.advice}" if each.whose else each.advice for each in remedies(run)
    ]
    if run.sight.look.out_of is not None:
        found.append(f"raise {run.sight.look.out_of} with sysctl")
    if any(missed.finished for missed in run.ledger.outcomes.missed):
        found.append(KEEP_MORE)
    return tuple(text for text in found if text)


def remedies(run: Run) -> list[Remedy]:
    """What there is to say of a run to a person, the most important first."""
    look, reason = run.sight.look, waiting_for(run)
    if run.flight.hangs is not None:
        return [Remedy(f"{reason}; other runs go on", run.location.check[1])]
    if run.left or run.sight.ended is None:
        return []
    if look.trouble is not None:
        return _of_trouble(run, look, reason)
    if run.pinning.blocks:
        return [Remedy(reason, "it is tried again, and not delivered before", "pins")]
    foreign = look.foreign
    if foreign is not None and foreign.another_level:
        return [Remedy(reason, about="another level")]
    if foreign is not None and not run.ledger.entries:
        return [Remedy(reason, _of_strangers(run), "strangers")]
    return list(_of_entries(run))


def _of_trouble(run: Run, look: Look, reason: str) -> list[Remedy]:
    if look.trouble is Trouble.LOCKED:
        return []  # Soon it answers, or raises.
    if look.trouble is Trouble.MISSING:
        return [Remedy(reason, f"check the path, {look.detail}")]
    if look.trouble is Trouble.BUSY:
        return [Remedy(reason, "it joins when that one is closed, or give this one its own cursor")]
    return [Remedy(reason, _check_access(run))]


def _check_access(run: Run) -> str:
    return f"it is waited for; {run.location.check[0]}"


def _of_strangers(run: Run) -> str:
    """What to do where no name looks like a checkpoint's."""
    foreign = run.sight.look.foreign
    assert foreign is not None
    if foreign.known is not None:
        return f"there are checkpoints of {foreign.known}: try layout={foreign.known!r}"
    if foreign.stranger is not None:
        return _say(foreign.stranger)
    return f"if it holds some already, try {_OWN_LAYOUT} or another directory"


def _of_entries(run: Run) -> Iterator[Remedy]:
    ledger, foreign, reasons = run.ledger, run.sight.look.foreign, unfinished(run)
    sign = Trouble.UNREADABLE.value
    unreadable = [name for name, reason in reasons.items() if reason.startswith(sign)]
    for name in unreadable[:_MANY]:
        yield Remedy(f"{name} {reasons[name]}", _check_access(run), whose=name)
    if len(unreadable) > _MANY:
        more = f"{len(unreadable) - _MANY} more checkpoints cannot be read"
        yield Remedy(more, _check_access(run), "many unreadable")
    if foreign is not None and foreign.stranger is not None:
        # A name is there before the files that tell whose it is.
        if run.sight.puzzling:
            yield Remedy(_shown(foreign.stranger), _say(foreign.stranger), "stranger")
        return
    # One is being written; that several are, and none is finished, is the wrong evidence. But
    # several may wait to settle, when they come fast.
    none = len(reasons) > 1 and len(reasons) == len(ledger.entries) and not ledger.settling.holding
    none &= not any(ledger.entries[name].settling for name in reasons)
    if none and not unreadable and ledger.queue.delivered is None:
        name, reason = next(iter(reasons.items()))
        problem = f"{len(reasons)} checkpoints, none of them finished ({name}: {reason})"
        yield Remedy(problem, _another_layout(run), "none finished")


def _another_layout(run: Run) -> str:
    foreign, own = run.sight.look.foreign, run.options.layout.name
    if foreign is not None and foreign.known is not None:
        known = foreign.known
        return f"is layout={own!r} right? For {known} they are finished: try layout={known!r}"
    if own == "auto":
        return f"if they are finished, say how that can be seen: {_OWN_LAYOUT}"
    return f"is layout={own!r} right?"


def _shown(stranger: Stranger) -> str:
    files = ", ".join(map(repr, stranger.inside))
    holds = f", and holds {files}" if files else ""
    return f"{stranger.name} is not recognised as a finished checkpoint{holds}"


def _say(stranger: Stranger) -> str:
    name, template = stranger.name, stranger.template
    if stranger.marker is not None:
        return f"if {name} is finished when {stranger.marker!r} is there, say layout={template!r}"
    return f"if {name} is finished as it is, say layout={template!r}: when it has settled"


def remedy_of_pattern(pattern: Pattern) -> Remedy | None:
    """What there is to say of a pattern to a person."""
    reason = pattern_waits_for(pattern)
    if pattern.flight.hangs is not None:
        return Remedy(f"{reason}; other runs go on", pattern.check[1])
    if pattern.ended is None:
        return None
    if pattern.look.trouble is Trouble.UNREADABLE:
        return Remedy(reason, f"it is waited for; {pattern.check[0]}")
    if pattern.look.trouble is not None:
        return Remedy(reason, f"check the path, {pattern.look.detail or 'it is waited for'}")
    if pattern.unreadable:
        parts = reason if not len(pattern) else unreadable_parts(pattern.unreadable)
        return Remedy(parts, pattern.check[0])
    if pattern.matched:
        return None
    return Remedy(reason, "if there should be some, check the pattern")
