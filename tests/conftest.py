from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import tempfile
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from buckets import Proxy, Server, moto
from hypothesis import HealthCheck, settings
from servers import Azurite, FakeGCS, SeaweedFS, serving
from steering import VirtualLoop
from sweeping import Sweep, sweep_of
from trio.testing import MockClock

from ckptstream.testing import ManualWatcher

# On a busy machine an example may take any time, and what fails once must fail again. Others are
# drawn with --hypothesis-profile=random.
CALM = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("random", CALM)
settings.register_profile("repeatable", CALM, derandomize=True)
settings.load_profile("repeatable")

Backend = tuple[str, dict[str, Any]]

_numbers = itertools.count()

MEMORY = "/dev/shm"
ROOM = 2 << 30
WORKERS = 16  # a user has 128 inotify instances
LEFT_BEHIND = 30.0  # seconds after which what has not gone is said to stay

BACKENDS: dict[str, Callable[[], Backend]] = {
    "asyncio": lambda: ("asyncio", {}),
    "uvloop": lambda: ("asyncio", {"use_uvloop": True}),
    "trio": lambda: ("trio", {}),
    "virtual-asyncio": lambda: ("asyncio", {"loop_factory": VirtualLoop}),
    "virtual-trio": lambda: ("trio", {"clock": MockClock(autojump_threshold=0)}),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    """
    `--in-memory`, where the disk's own ways, such as using inode numbers again, are not the point.
    """
    text = f"make temporary files in {MEMORY}, if it is there and has room"
    parser.addoption("--in-memory", action="store_true", help=text)


def pytest_configure(config: pytest.Config) -> None:
    """
    Before anything asks where temporary files are; processes that tests start make theirs there.
    """
    if config.getoption("in_memory") and room(MEMORY) > ROOM:
        os.environ["TMPDIR"] = tempfile.tempdir = MEMORY
    heed_signals()


def heed_signals() -> None:
    """
    Also in the background of a script, or under `nohup`: what tests start would ignore them, too.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def room(directory: str) -> int:
    """
    How many bytes may be written there.
    """
    if not os.access(directory, os.W_OK):
        return 0
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """
    Two for each processor: half of the time tests wait.
    """
    return min(2 * (os.cpu_count() or 1), WORKERS)


def pytest_collection_finish() -> None:
    """
    What is imported stays.
    """
    freeze()


def freeze() -> None:
    """
    What lives now stays to the end: collections of garbage need not go through it again.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["asyncio", pytest.param("uvloop", marks=pytest.mark.thorough), "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Backend:
    """
    Every event loop; `steering.virtual` asks for those in which no time passes.

    uvloop is asyncio to whatever is not about the event loop itself: one Python is enough.
    """
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    return BACKENDS[request.param]()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """
    An empty directory that checkpoints will lie in.
    """
    path = tmp_path / "run"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """
    An S3 server, started once for whoever asks.
    """
    with moto() as server:
        server.make_bucket(f"bucket-{next(_numbers)}")  # It imports most at the first request.
        freeze()
        yield server


@pytest.fixture
def bucket(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """
    A bucket of its own, with all that is needed for it in the environment.
    """
    name = f"bucket-{next(_numbers)}"
    server.make_bucket(name)
    for key, value in server.environment.items():
        monkeypatch.setenv(key, value)
    return name


@pytest.fixture
def proxy(server: Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """
    What the environment leads to.
    """
    proxy = Proxy(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """
    An S3 server that checks signatures; a process of its own.
    """
    with serving(SeaweedFS, tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """
    An Azure server; a process of its own.
    """
    with serving(Azurite, tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(scope="session")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGCS]:
    """
    A server of Google Cloud Storage's; a process of its own.
    """
    with serving(FakeGCS, tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture
def watcher() -> ManualWatcher:
    """
    Looks are made when the test says that something has changed.
    """
    return ManualWatcher()


@pytest.fixture(params=["pattern", "directories"])
def sweep(request: pytest.FixtureRequest, tmp_path: Path, watcher: ManualWatcher) -> Sweep:
    """
    Makes a stream over `a`, `b` and `c`: both ways of saying so.
    """
    paths = [tmp_path / "*"] if request.param == "pattern" else [tmp_path / name for name in "abc"]
    return lambda **options: sweep_of(*paths, **{"watcher": watcher, **options})


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """
    Fails a test that leaves tasks, threads at work or inotify descriptors.
    """
    if "anyio_backend" in request.fixturenames:
        request.getfixturevalue("no_task_is_left_behind")
    before = left_behind()
    yield
    deadline = time.monotonic() + LEFT_BEHIND
    while (left := left_behind() - before) and time.monotonic() < deadline:
        gc.collect()
        for thread in threading.enumerate():
            if thread.name in left:
                thread.join(0.05)
    assert set() == left


def left_behind() -> set[str]:
    """
    The names of our threads, and the inotify descriptors.
    """
    names = {thread.name for thread in threading.enumerate()}
    return {name for name in names if name.startswith("ckptstream")} | set(inotify_descriptors())


def inotify_descriptors() -> Iterator[str]:
    """
    The descriptors of this process that watch, where the system has `/proc`.
    """
    root = "/proc/self/fd"
    for descriptor in os.listdir(root) if os.path.isdir(root) else ():
        try:
            target = os.readlink(f"{root}/{descriptor}")
        except FileNotFoundError:
            continue  # The listing's own.
        if target == "anon_inode:inotify":
            yield f"inotify descriptor {descriptor}"


@pytest.fixture
async def no_task_is_left_behind(
    anyio_backend: Backend, anyio_backend_name: str
) -> AsyncGenerator[None]:
    """
    Fails a test that leaves tasks in asyncio's loop.
    """
    if anyio_backend_name != "asyncio":
        yield
        return
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before
    assert set() == {task for task in left if "TestRunner" not in repr(task.get_coro())}
