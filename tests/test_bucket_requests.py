"""
Each request to a bucket is paid for: how many one look makes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from buckets import put

from ckptstream._scan import Look, Request, Trouble, look
from ckptstream._stores import given_store
from ckptstream.layouts import pointer_layouts, resolve

pytest.importorskip("obstore")

PAGE = 1000  # what a store lists in one answer


@dataclass
class Looks:
    """
    One look after the other at all of a store, and what each of them costs.
    """

    store: Any
    layout: str = "step_{step}/DONE"
    clock: float = 0.0
    last: Look | None = None
    entries: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        self.location = given_store(self.store)

    def look(self, *, thorough: bool = False, trouble: Trouble | None = None) -> Look:
        """
        As a stream makes it.
        """
        layout = resolve(self.layout)
        finished = [name for name, each in self.entries.items() if each.missing is None]
        finished.sort(key=lambda name: self.entries[name].step or 0)
        result = look(
            Request(
                location=self.location,
                layout=layout,
                pointers=pointer_layouts(layout),
                pointed=() if self.last is None else self.last.pointed,
                entries=self.entries,
                unfinished=self.entries.keys() - finished,
                newest=finished[-3:],
                hints={},
                full=True,
                whole=thorough or self.last is None,
                thorough=thorough or self.last is None,
                ground=None if self.last is None else self.last.ground,
                subscription=None,
                why_poll="",
                trust_any=False,
                clock=lambda: self.clock,
            ),
            lambda: None,
        )
        assert trouble is result.trouble
        self.last = result
        self.entries |= result.changed
        self.entries = {n: each for n, each in self.entries.items() if n not in result.gone}
        return result

    def cost(self, *, thorough: bool = False) -> tuple[int, list[str]]:
        """
        How many requests a look makes, and what it finds finished.
        """
        before = self.location.requests
        changed = self.look(thorough=thorough).changed
        finished = sorted(name for name, each in changed.items() if each.missing is None)
        return self.location.requests - before, finished


@pytest.fixture
def store() -> Any:
    """
    An object store in this process.
    """
    from obstore.store import MemoryStore

    return MemoryStore()


class Overloaded:
    """
    A store that does not answer now and then.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self.down = False

    def __getattr__(self, name: str) -> Any:
        from obstore.exceptions import GenericError

        if self.down:
            raise GenericError("status code: 503 Service Unavailable")
        return getattr(self._store, name)


def finish(store: Any, *steps: int, name: str = "step_{}") -> None:
    """
    Upload checkpoints, their markers last.
    """
    for step in steps:
        put(store, f"{name.format(step)}/model.bin", b"weights")
        put(store, f"{name.format(step)}/DONE")


def test_a_first_look_lists_everything_at_once(store: Any) -> None:
    """
    One listing of the run, and one of all that is in it, however many checkpoints that are.
    """
    finish(store, *range(100))

    requests, found = Looks(store).cost()

    assert (2, 100) == (requests, len(found))


def test_few_checkpoints_are_listed_one_by_one(store: Any) -> None:
    """
    Of a run that keeps few, and each in ten thousand parts, only those are listed.
    """
    finish(store, 1, 2)

    requests, _ = Looks(store).cost()

    assert 3 == requests


def test_many_parts_are_not_all_listed(store: Any) -> None:
    """
    A listing of everything is given up when it has cost as much as one of each checkpoint.
    """
    for number in range(6 * PAGE):
        put(store, f"step_0/part-{number}")
    finish(store, *range(5))

    requests, found = Looks(store).cost()

    given_up, pages_of_the_first = 5, 7
    assert 1 + given_up + pages_of_the_first + 4 == requests
    assert 5 == len(found)


def test_a_quiet_look_is_one_request(store: Any) -> None:
    """
    A listing of the run.
    """
    finish(store, *range(20))
    looks = Looks(store)
    looks.look()

    assert (1, []) == looks.cost()


@pytest.mark.parametrize(("thorough", "same"), [(False, True), (True, False)])
def test_after_a_fault_a_look_costs_no_more(store: Any, thorough: bool, same: bool) -> None:
    """
    A server that has too much to do is not asked for more; but what was due is made up for.
    """
    finish(store, *range(20))
    overloaded = Overloaded(store)
    looks = Looks(overloaded)
    looks.look()
    quiet, _ = looks.cost()
    overloaded.down = True
    looks.look(thorough=thorough, trouble=Trouble.UNREADABLE)
    overloaded.down = False

    assert same is (quiet == looks.cost()[0])


def test_what_is_new_is_one_more(store: Any) -> None:
    """
    A listing of the checkpoint that has come.
    """
    finish(store, *range(20))
    looks = Looks(store)
    looks.look()
    finish(store, 20)

    assert (2, ["step_20"]) == looks.cost()


def test_a_thorough_look_sees_what_was_written_again(store: Any) -> None:
    """
    Any of them, and also that costs one listing of all.
    """
    finish(store, *range(20))
    looks = Looks(store)
    looks.look()
    finish(store, 3)

    assert [(1, []), (2, ["step_3"])] == [looks.cost(), looks.cost(thorough=True)]


def test_a_thorough_look_at_few_asks_for_their_markers(store: Any) -> None:
    """
    One object of each, however many parts it has.
    """
    for number in range(2 * PAGE):
        put(store, f"step_1/part-{number}")
    finish(store, 1, 2)
    looks = Looks(store)
    looks.look()

    assert (3, []) == looks.cost(thorough=True)


def test_an_object_that_was_written_again_is_seen_in_the_listing(store: Any) -> None:
    """
    Of checkpoints that are objects themselves, the newest are compared each time.
    """
    for step in range(20):
        put(store, f"ckpt_{step}.bin", b"weights")
    looks = Looks(store, layout="ckpt_{step}.bin")
    looks.look()
    looks.clock += 100  # They have settled.
    looks.look()
    put(store, "ckpt_19.bin", b"others")
    looks.look()
    looks.clock += 100

    assert ["ckpt_19.bin"] == looks.cost()[1]


def save_pointed(store: Any, step: int) -> None:
    put(store, f"global_step{step}/mp_rank_00_model_states.pt", b"weights")
    put(store, "latest", f"global_step{step}".encode())


def pointed(store: Any, layout: str = "deepspeed") -> Looks:
    save_pointed(store, 1)
    looks = Looks(store, layout=layout)
    looks.look()
    looks.clock += 40  # It has settled.
    looks.look()
    return looks


@pytest.mark.parametrize("layout", ["deepspeed", "auto"])
def test_where_there_is_a_pointer_only_that_is_asked_for(store: Any, layout: str) -> None:
    """
    Whether it has changed; and none that other frameworks would have.
    """
    looks = pointed(store, layout)

    assert (1, []) == looks.cost()


def test_a_pointer_that_has_changed(store: Any) -> None:
    """
    Is read, and then the run is listed.
    """
    looks = pointed(store)
    save_pointed(store, 2)
    looks.look()
    looks.clock += 40

    assert ["global_step2"] == looks.cost()[1]


def test_what_no_pointer_names_is_found_later(store: Any) -> None:
    """
    The run is listed now and then, whatever the pointer says.
    """
    looks = pointed(store)
    put(store, "global_step3/mp_rank_00_model_states.pt", b"weights")

    before = dict(looks.look().changed)
    looks.clock += 120

    assert ([], ["global_step3"]) == (list(before), list(looks.look().changed))


def test_a_pointer_that_is_deleted(store: Any) -> None:
    """
    Then the run is listed again.
    """
    looks = pointed(store)
    store.delete("latest")

    assert 2 == looks.cost()[0]


def test_of_ten_pages_only_the_new_names_are_listed(store: Any) -> None:
    """
    Where the names' numbers are padded, so that what is new comes last.
    """
    finish(store, *range(3 * PAGE), name="step_{:08}")
    looks = Looks(store)
    looks.look()
    quiet = looks.cost()
    finish(store, 3 * PAGE, name="step_{:08}")

    assert (1, []) == quiet
    assert (2, ["step_00003000"]) == looks.cost()


def test_of_ten_pages_all_are_listed_now_and_then(store: Any) -> None:
    """
    What was deleted, and a lower step that came late.
    """
    finish(store, *range(1, 2 * PAGE), name="step_{:08}")
    looks = Looks(store)
    looks.look()
    for file in ("DONE", "model.bin"):
        store.delete(f"step_00000005/{file}")
    finish(store, 0, name="step_{:08}")

    assert (1, []) == looks.cost()

    looks.clock += 120
    found = looks.look()

    assert (("step_00000005",), ["step_00000000"]) == (found.gone, list(found.changed))


def test_many_new_parts_are_not_all_listed_twice(store: Any) -> None:
    """
    After four pages of them the names are listed, which are fewer.
    """
    finish(store, *range(2 * PAGE), name="step_{:08}")
    looks = Looks(store)
    looks.look()
    for number in range(9 * PAGE):
        put(store, f"step_{2 * PAGE:08}/part-{number}")

    given_up, names, parts = 4, 3, 9
    assert given_up + names + parts == looks.cost()[0]


def test_names_that_are_not_padded_are_all_listed(store: Any) -> None:
    """
    What is new may be anywhere among them.
    """
    finish(store, *range(2 * PAGE))
    looks = Looks(store)
    looks.look()
    finish(store, 2 * PAGE)

    assert ["step_2000"] == looks.cost()[1]


class Deaf:
    """
    A server that lists everything, wherever it was to begin.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def list(
        self, prefix: str | None = None, *, offset: str | None = None, chunk_size: int = 50
    ) -> Any:
        return self._store.list(prefix, chunk_size=chunk_size)


def test_a_server_that_ignores_where_to_begin(store: Any) -> None:
    """
    Nothing is taken for new that is not, and what is new is found: one page tells, then all names
    are listed.
    """
    finish(store, *range(2 * PAGE), name="step_{:08}")
    looks = Looks(Deaf(store))
    looks.look()
    quiet = looks.cost()
    finish(store, 2 * PAGE, name="step_{:08}")

    assert (1 + 2, []) == quiet
    assert ["step_00002000"] == looks.cost()[1]


class Odd(Deaf):
    """
    A server in which a key with an empty part comes after all checkpoints.
    """

    def list(
        self, prefix: str | None = None, *, offset: str | None = None, chunk_size: int = 50
    ) -> Any:
        from obstore.exceptions import GenericError

        yield from ()
        raise GenericError("InvalidPath")


def test_a_key_that_cannot_be_named_hides_nothing(store: Any) -> None:
    """
    All names are listed, of which it is none.
    """
    finish(store, *range(2 * PAGE), name="step_{:08}")
    looks = Looks(store)
    looks.look()
    looks.location.client = Odd(store)
    finish(store, 2 * PAGE, name="step_{:08}")

    assert ["step_00002000"] == looks.cost()[1]


def test_what_nobody_recognises_is_looked_into_once(store: Any) -> None:
    """
    It only serves an explanation, until something else lies there.
    """
    for number in range(30):
        put(store, f"strange/{number}/file")
        put(store, f"other-{number}/file")
    looks = Looks(store)
    first, _ = looks.cost()
    quiet, _ = looks.cost()
    put(store, "more/file")
    again, _ = looks.cost()

    assert (True, 1, True) == (1 < first < 20, quiet, 1 < again < 20)


def test_an_explanation_holds_on_while_a_pointer_says_the_same(store: Any) -> None:
    """
    To ask for the pointer is not to ask what lies there.
    """
    put(store, "latest", b"whatever")
    put(store, "run/checkpoint-5/trainer_state.json")
    looks = Looks(store, layout="auto")
    first, second = looks.look(), looks.look()
    second.remember(first)

    assert first.foreign is not None
    assert first.foreign == second.foreign
