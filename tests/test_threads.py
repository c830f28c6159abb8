"""
The pool of daemon threads: few, never at work for nobody, and not to be used up by what hangs.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from observing import EVERY_LOOP, SECONDS, Backend, until, wait_until

from ckptstream._threads import HEALTHY_THREADS, HUNG_THREADS, Job, Pool, _job, _pool, current_pool

pytestmark = pytest.mark.anyio


def nothing() -> None:
    """
    For those who need not be told.
    """


def job(function: Callable[[], object], lane: str = "/") -> Job[object]:
    return Job(lambda alive: function(), lambda: lane)


class Gate:
    """
    What jobs hang on, until it is opened.
    """

    def __init__(self) -> None:
        self.inside = 0
        self._lock = threading.Lock()
        self._open = threading.Event()

    def enter(self) -> str:
        with self._lock:
            self.inside += 1
        assert self._open.wait(SECONDS)
        return "late"

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What says nothing for 30 ms hangs.
    """
    monkeypatch.setattr(_job, "HUNG_AFTER", 0.03)


async def hang(pool: Pool, gate: Gate, number: int, lane: str = "/hung") -> list[Job[object]]:
    """
    Submit jobs that hang, until no more of them begin.
    """
    jobs = [job(gate.enter, lane) for _ in range(number)]
    for each in jobs:
        pool.submit(each, nothing)

    def stuck() -> bool:
        pool.review()
        return pool.hung >= min(number, HUNG_THREADS)

    await until(stuck)
    return jobs


async def answer(pool: Pool, asked: Job[object]) -> object:
    """
    Wait for a job as a stream does, with a review now and then.
    """
    done = anyio.Event()
    pool.submit(asked, done.set)
    with anyio.fail_after(SECONDS):
        while not done.is_set():
            pool.review()
            with anyio.move_on_after(0.01):
                await done.wait()
    return asked.take()


async def test_a_job_runs_in_a_daemon_thread_and_its_news_in_the_loop() -> None:
    """
    The function sees another thread, the callback sees the event loop's.
    """
    here, news, told = threading.current_thread(), list[threading.Thread](), anyio.Event()

    def hear() -> None:
        news.append(threading.current_thread())
        told.set()

    pool = current_pool()
    asked = job(threading.current_thread)
    pool.submit(asked, hear)
    with anyio.fail_after(SECONDS):
        await told.wait()

    worker = asked.take()
    assert isinstance(worker, threading.Thread)
    assert (True, "ckptstream-look", False) == (worker.daemon, worker.name, worker is here)
    assert [here] == news


@pytest.mark.parametrize("kind", [OSError, SystemExit, KeyboardInterrupt])
async def test_what_the_function_raises_is_raised_by_take(kind: type[BaseException]) -> None:
    """
    The thread survives it, whatever it is, and serves the next job.
    """
    pool = current_pool()

    def fail() -> None:
        raise kind("7")

    with pytest.raises(kind, match="7"):
        await answer(pool, job(fail))

    assert 7 == await answer(pool, job(lambda: 7))


async def test_many_jobs_share_two_threads(gate: Gate) -> None:
    """
    A hundred jobs that wait for their turn are no reason for a third thread.
    """
    pool = current_pool()
    jobs = [job(gate.enter) for _ in range(100)]
    for each in jobs:
        pool.submit(each, nothing)
    await until(lambda: HEALTHY_THREADS == gate.inside)

    pool.review()

    assert (HEALTHY_THREADS, 0) == (pool.threads, pool.hung)
    assert [None] * 100 == [each.hangs for each in jobs]
    gate.open()
    await until(lambda: all(each.done for each in jobs))
    assert HEALTHY_THREADS == pool.threads


async def test_one_job_starts_one_thread() -> None:
    """
    And the next job takes the same one.
    """
    pool = current_pool()

    first = await answer(pool, job(threading.current_thread))
    await until(lambda: pool._workers.pending == 0)

    assert first is await answer(pool, job(threading.current_thread))
    assert 1 == pool.threads


@pytest.mark.usefixtures("impatient")
async def test_twenty_jobs_on_one_hung_mount_take_four_threads(gate: Gate) -> None:
    """
    The others are held back, and a healthy job is still served.
    """
    pool = current_pool()
    jobs = await hang(pool, gate, 20)

    served = [await answer(pool, job(lambda: "healthy")) for _ in range(3)]

    assert ["healthy"] * 3 == served
    await until(lambda: 20 - HUNG_THREADS == len(pool._workers.held))
    assert (HUNG_THREADS, HUNG_THREADS) == (pool.hung, gate.inside)
    assert HUNG_THREADS + HEALTHY_THREADS >= pool.threads
    assert [True] * 20 == [each.hangs is not None for each in jobs]


@pytest.mark.usefixtures("impatient")
async def test_a_job_that_waits_for_its_turn_is_not_said_to_hang(gate: Gate) -> None:
    """
    Not even while others are held back: healthy threads are at work, and come to it.
    """
    pool, busy = current_pool(), Gate()
    await hang(pool, gate, 20)
    await until(lambda: 20 - HUNG_THREADS == len(pool._workers.held))
    beats = [job(busy.enter, f"/healthy/{number}") for number in range(HEALTHY_THREADS)]
    for each in beats:
        pool.submit(each, nothing)
    await until(lambda: busy.inside == HEALTHY_THREADS)
    waiting = job(lambda: "served", "/healthy")
    pool.submit(waiting, nothing)

    await until(lambda: waiting.silent > 2 * 0.03)
    assert (None, False) == (waiting.hangs, waiting.started)
    busy.open()


@pytest.mark.usefixtures("impatient")
async def test_what_was_held_back_runs_once_the_mount_answers(gate: Gate) -> None:
    """
    Nobody has to ask again, and the surplus threads end.
    """
    pool = current_pool()
    jobs = await hang(pool, gate, 20)
    await until(lambda: 20 - HUNG_THREADS == len(pool._workers.held))

    gate.open()

    await until(lambda: all(each.done for each in jobs))
    assert ["late"] * 20 == [each.take() for each in jobs]
    await until(lambda: pool.threads <= HEALTHY_THREADS)
    assert (0, []) == (pool.hung, pool._workers.held)


@pytest.mark.usefixtures("impatient")
async def test_one_of_four_mounts_answers_again(gate: Gate) -> None:
    """
    What was held back for it runs, while the other three still hang.
    """
    pool, first = current_pool(), Gate()
    pool.submit(job(first.enter, "/first"), nothing)
    for number in range(3):
        pool.submit(job(gate.enter, f"/{number}"), nothing)

    def stuck() -> bool:
        pool.review()
        return pool.hung == 4

    await until(stuck)
    held = job(lambda: "served", "/first")
    pool.submit(held, nothing)
    await until(lambda: [held] == pool._workers.held)

    first.open()

    await until(lambda: held.done)
    assert ("served", 3) == (held.take(), pool.hung)


@pytest.mark.usefixtures("impatient")
async def test_when_every_mount_hangs_the_waiting_job_says_so(gate: Gate) -> None:
    """
    Six threads are all there are: the seventh job does not pretend to be merely waiting.
    """
    pool = current_pool()
    lanes = [f"/mount/{number}" for number in range(6)]
    for lane in lanes:
        pool.submit(job(gate.enter, lane), nothing)

    def stuck() -> bool:
        pool.review()
        return gate.inside == 6 and pool.hung == 6

    await until(stuck)
    seventh = job(lambda: "served", "/healthy")
    pool.submit(seventh, nothing)

    await until(lambda: seventh.hangs is not None)
    assert (6, False) == (pool.threads, seventh.started)
    gate.open()
    await until(lambda: seventh.done)
    assert ("served", None) == (seventh.take(), seventh.hangs)


@pytest.mark.usefixtures("impatient")
async def test_a_slow_job_that_gives_signs_of_life_does_not_hang(gate: Gate) -> None:
    """
    A large directory on slow storage takes long, and is left alone.
    """
    beats, ends = threading.Semaphore(0), threading.Event()

    def work(alive: Callable[[], None]) -> str:
        while not ends.wait(0.001):
            alive()
            beats.release()
        return "slow"

    pool = current_pool()
    slow = Job(work, lambda: "/")
    pool.submit(slow, nothing)
    silent = job(gate.enter)
    pool.submit(silent, nothing)

    def reviewed() -> bool:
        pool.review()
        return silent.hangs is not None

    await until(reviewed)  # The other one is found out in that time; this one is not.
    assert beats.acquire(timeout=SECONDS)
    assert (1, None) == (pool.hung, slow.hangs)
    ends.set()
    await until(lambda: slow.done)


async def test_a_hung_job_counts_from_its_last_sign_of_life(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Not before a second has passed, and then with the seconds.
    """
    now = 100.0
    monkeypatch.setattr("ckptstream._threads._job.time.monotonic", lambda: now)
    pool = current_pool()
    asked = job(gate.enter)
    pool.submit(asked, nothing)
    while not gate.inside:
        await anyio.lowlevel.checkpoint()

    now = 100.999
    pool.review()
    before = (pool.hung, asked.hangs)
    now = 101.0
    pool.review()

    assert ((0, None), (1, 1.0)) == (before, (pool.hung, asked.hangs))


async def test_idle_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A stream that waits for days keeps no thread.
    """
    monkeypatch.setattr(_pool, "IDLE_SECONDS", 0.01)
    pool = current_pool()
    await answer(pool, job(lambda: None))

    await until(lambda: pool.threads == 0)

    assert 7 == await answer(pool, job(lambda: 7))


async def test_threads_end_with_their_pool() -> None:
    """
    Nobody closes it: it is enough that the last stream has gone.
    """
    pool = current_pool()
    worker = await answer(pool, job(threading.current_thread))
    assert isinstance(worker, threading.Thread)
    assert worker.is_alive()

    del pool
    gc.collect()

    await until(lambda: not worker.is_alive())


async def test_one_pool_for_each_loop() -> None:
    """
    The same one for as long as somebody holds it, another one in another loop.
    """
    pool = current_pool()
    others = list[Pool]()

    async def ask() -> None:
        others.append(current_pool())

    thread = threading.Thread(target=anyio.run, args=(ask,))
    thread.start()
    thread.join(SECONDS)

    assert pool is current_pool()
    assert [False] == [other is pool for other in others]


async def test_a_job_keeps_nothing_alive_once_it_is_done() -> None:
    """
    An idle thread lets go of a look, and through it of a stream.
    """
    import weakref

    class Stream:
        def look(self) -> None:
            pass

    pool, stream = current_pool(), Stream()
    gone = weakref.ref(stream)
    await answer(pool, job(stream.look))

    del stream

    await until(lambda: gc.collect() >= 0 and gone() is None)
    assert 1 == pool.threads


def run(main: Callable[..., Any], backend: Backend, *arguments: object) -> Any:
    return anyio.run(main, *arguments, backend=backend[0], backend_options=backend[1])


@EVERY_LOOP
def test_the_result_of_an_old_loop_is_taken_in_a_new_one(backend: Backend, gate: Gate) -> None:
    """
    The thread that finds its loop gone keeps the result, and nobody is told in vain.
    """
    asked, told = job(gate.enter), list[str]()

    async def first() -> None:
        pool = current_pool()
        pool.submit(asked, partial(told.append, "first"))
        await until(lambda: gate.inside)

    async def second() -> None:
        asked.notify(partial(told.append, "second"))
        gate.open()
        await until(lambda: told)

    run(first, backend)
    run(second, backend)

    assert (["second"], "late") == (told, asked.take())


@EVERY_LOOP
def test_a_job_that_ended_between_two_loops_tells_the_second(backend: Backend, gate: Gate) -> None:
    """
    Whoever asks after the fact is told at once.
    """
    asked, told = job(gate.enter), list[str]()

    async def first() -> None:
        pool = current_pool()
        pool.submit(asked, partial(told.append, "first"))
        await until(lambda: gate.inside)

    async def second() -> None:
        asked.notify(partial(told.append, "second"))

    run(first, backend)
    gate.open()
    wait_until(lambda: asked.done)
    run(second, backend)

    assert (["second"], "late") == (told, asked.take())


async def test_a_pool_collected_by_its_own_thread_does_not_lock_itself_out() -> None:
    """
    The garbage collector runs anywhere, also where the thread holds the pool's lock.
    """
    pool = current_pool()
    worker = await answer(pool, job(threading.current_thread))
    assert isinstance(worker, threading.Thread)
    holder, workers = [pool], pool._workers
    del pool

    def collect() -> None:
        with workers.lock:
            holder.clear()
            gc.collect()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()

    await until(lambda: not thread.is_alive())
    await until(lambda: not worker.is_alive())


@EVERY_LOOP
def test_a_process_exits_while_jobs_hang(backend: Backend) -> None:
    """
    Nobody joins the threads: the exit of the process does not wait for the storage.
    """
    program = f"""if True:
        import threading, anyio
        from ckptstream._threads import Job, current_pool
        inside = threading.Semaphore(0)

        def hang(alive):
            inside.release()
            threading.Event().wait()

        async def main():
            pool = current_pool()
            for _ in range(2):
                pool.submit(Job(hang, lambda: "/"), print)
                assert inside.acquire(timeout={SECONDS})
            print("hangs")

        anyio.run(main, backend={backend[0]!r}, backend_options={backend[1]!r})
    """
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)

    assert ("hangs\n", "", 0) == (done.stdout, done.stderr, done.returncode)
