"""
What every store answers alike: the local filesystem, and obstore's memory, S3, Azure and GCS.
"""

from __future__ import annotations

import itertools
import os
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from buckets import Server, put
from servers import BUCKET, FakeGCS, ObjectServer

from ckptstream._stores import BucketLocation, LocalLocation, Location, Store

_numbers = itertools.count()


@dataclass
class Place:
    """
    A run in some store, and how its files are written.
    """

    location: Location
    write: Callable[[str, bytes], None]
    delete: Callable[[str], None]
    heeds: bool = True  # from where it is asked to list, and what is known already

    def open(self) -> Store:
        """
        For one look.
        """
        return self.location.open(self.location.profile(), lambda: None)


def local(path: Path) -> Place:
    def write(name: str, content: bytes) -> None:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)

    return Place(LocalLocation(str(path)), write, lambda name: os.remove(path / name), heeds=False)


def bucket(store: Any, prefix: str) -> Place:
    return Place(
        BucketLocation("s3://bucket/runs", prefix, client=store),
        lambda name, content: put(store, f"{prefix}/{name}".strip("/"), content),
        lambda name: store.delete(f"{prefix}/{name}".strip("/")),
    )


def served(server: ObjectServer, prefix: str) -> Place:
    store = server.store(BUCKET)
    return Place(
        BucketLocation(f"s3://{BUCKET}/{prefix}", prefix, client=store),
        lambda name, content: server.put(f"{prefix}/{name}", content),
        lambda name: store.delete(f"{prefix}/{name}"),
        heeds=not isinstance(server, FakeGCS),
    )


SERVERS = ["seaweedfs", "azurite", "gcs"]


@pytest.fixture(params=["local", "memory", "s3", "s3, all of a bucket", *SERVERS])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """
    An empty run.
    """
    if request.param == "local":
        return local(tmp_path)
    pytest.importorskip("obstore")
    if request.param == "memory":
        from obstore.store import MemoryStore

        return bucket(MemoryStore(), "runs/7b")
    if request.param in SERVERS:
        return served(request.getfixturevalue(request.param), f"runs/{next(_numbers)}")
    server: Server = request.getfixturevalue("server")
    name = f"contract-{next(_numbers)}"
    server.make_bucket(name)
    return bucket(server.store(name), "" if "all" in request.param else "runs/7b")


def test_names_are_those_at_the_location_itself(place: Place) -> None:
    """
    Files and directories, of this run alone, and none twice.
    """
    place.write("step-1/model.bin", b"x")
    place.write("step-1/deep/er", b"x")
    place.write("latest", b"step-1")

    assert ["latest", "step-1"] == sorted(place.open().names())


def test_a_listing_is_in_order_and_of_one_level(place: Place) -> None:
    """
    What is not there, and a file, list as empty.
    """
    for name in ("c", "a", "b/d"):
        place.write(f"step-1/{name}", b"x")
    store = place.open()

    assert ("a", "b", "c") == store.list("step-1")
    assert ((), (), ("d",)) == (
        store.list("step-2"),
        store.list("step-1/a"),
        store.list("step-1/b"),
    )


def test_a_prefix_of_a_name_is_another_name(place: Place) -> None:
    """
    `step-1` is not `step-10`.
    """
    place.write("step-10/model.bin", b"x")
    store = place.open()

    assert (None, (), False) == (store.stat("step-1"), store.list("step-1"), store.has("step-1"))


def test_a_hundred_and_more_names(place: Place) -> None:
    """
    All of them, though a server may answer in pages.
    """
    for number in range(120):
        place.write(f"step-{number}/DONE", b"x")

    assert 120 == len(place.open().names())


def test_names_after_one(place: Place) -> None:
    """
    In the order of their bytes, each once, by one request; None where all are to be listed.
    """
    before = ["latest", "step-08/DONE", "step-09/DONE", "step-09/x", "step-09.tmp", "stems"]
    after = ["step-10", "step-9", "step_1", "zeta", "ü"]
    for name in (*before, "step-10/DONE", "step-10/a/b", "step-9", "step_1/x", "zeta", "ü/x"):
        place.write(name, b"x")
    store, asked = place.open(), place.location.requests or 0

    found = store.names_after("step-09")

    assert (after if place.heeds else None) == (found and sorted(found))
    assert (1 if place.location.profile().paid else 0) == (place.location.requests or 0) - asked


def test_names_after_one_that_is_not_there(place: Place) -> None:
    """
    Or that is the last: nothing but what comes after it.
    """
    for name in ("step-08/DONE", "step-10/DONE"):
        place.write(name, b"x")

    found = [place.open().names_after(name) for name in ("step-09", "step-10", "zeta")]

    assert ([["step-10"], [], []] if place.heeds else [None] * 3) == found


@pytest.mark.parametrize("listed", [False, True])
def test_what_is_said_of_a_file_and_of_a_directory(place: Place, listed: bool) -> None:
    """
    The same, whether the run was listed before or not.
    """
    place.write("ckpt_1.pt", b"12345")
    place.write("step-1/DONE", b"")
    store = place.open()
    if listed:
        store.names()

    sizes = {
        name: None if found is None else (found.size if not found.is_directory else "directory")
        for name in ("ckpt_1.pt", "step-1", "step-1/DONE", "step-1/no", "no", "no/no")
        for found in [store.stat(name)]
    }

    assert {
        "ckpt_1.pt": 5,
        "step-1": "directory",
        "step-1/DONE": 0,
        "step-1/no": None,
        "no": None,
        "no/no": None,
    } == sizes
    assert (True, True, False) == (store.has("ckpt_1.pt"), store.has("step-1"), store.has("no"))


def test_asking_again_says_the_same(place: Place) -> None:
    """
    Of a file that has not changed, by a listing or by itself, in this look and in the next one.
    """
    place.write("step-1/DONE", b"x")
    store = place.open()
    store.list("step-1")
    first = store.stat("step-1/DONE")

    assert [first] * 3 == [
        store.stat("step-1/DONE", again=True),
        place.open().stat("step-1/DONE"),
        place.open().stat("step-1/DONE", again=True),
    ]


def test_asking_again_sees_what_has_changed(place: Place) -> None:
    """
    Written again with as many bytes, in the same second; and deleted. In another look.
    """
    place.write("step-1/DONE", b"first")
    first = place.open().stat("step-1/DONE")

    time.sleep(0.01)  # Filesystems have clocks of 4 ms.
    place.write("step-1/DONE", b"other")
    second = place.open().stat("step-1/DONE", again=True)
    place.delete("step-1/DONE")

    assert second not in {first, None}
    assert place.open().stat("step-1/DONE", again=True) is None


def test_what_was_read_is_not_what_was_listed(place: Place) -> None:
    """
    Of a file that was written again between the two, the look is told.
    """
    place.write("step-1/DONE", b"first")
    store = place.open()
    store.list("step-1")
    first = store.stat("step-1/DONE")
    time.sleep(0.01)  # Filesystems have clocks of 4 ms.
    place.write("step-1/DONE", b"other")

    assert b"other" == store.read("step-1/DONE", 0, 5)
    assert store.stat("step-1/DONE", again=True) != first


@pytest.mark.parametrize("others", [0, 9])
def test_how_large_it_is(place: Place, others: int) -> None:
    """
    All that lies at or below a path, and nothing of what is only named alike; and its age.
    """
    place.write("ckpt_1.pt", b"12345")
    for name, size in (("model.bin", 10), ("deep/er/optimizer.bin", 20), ("empty", 0)):
        place.write(f"step-1/{name}", b"x" * size)
    place.write("step-10/model.bin", b"x" * 99)
    for number in range(others):
        place.write(f"other-{number}/DONE", b"x")
    store = place.open()
    store.expect(store.names())

    found = {name: store.extent(name) for name in ("ckpt_1.pt", "step-1", "step-2")}

    assert [5, 30, 0] == [size for size, _ in found.values()]
    assert 0 == found["step-2"][1]
    ages = [time.time() - newest / 1e9 for size, newest in found.values() if size]
    assert all(-2 < age < 60 for age in ages)


def test_bytes_of_a_file(place: Place) -> None:
    """
    Its beginning, its middle and its end, and no more than there are.
    """
    place.write("step-1/file", b"0123456789")
    place.write("step-1/empty", b"")
    store = place.open()

    asked = [(0, 3), (0, 99), (-3, 3), (-99, 99), (4, 2), (8, 9)]
    read = [store.read("step-1/file", start, size) for start, size in asked]

    assert [b"012", b"0123456789", b"789", b"0123456789", b"45", b"89"] == read
    assert (b"", b"") == (store.read("step-1/empty", 0, 9), store.read("step-1/empty", -9, 9))
    assert (None, None) == (store.read("step-1", 0, 9), store.read("step-1/no", 0, 9))


def test_a_pointer_is_what_a_file_says(place: Place) -> None:
    """
    None where there is no such file.
    """
    place.write("latest", b"step-1\n")
    store = place.open()

    assert (b"step-1\n", None) == (store.pointer("latest", 99), store.pointer("last", 99))


def test_a_pointer_that_is_read_again(place: Place) -> None:
    """
    In one look after the other: the same, another one of as many bytes, none, and one again.
    """
    said = list[bytes | None]()
    for content in (b"step-1", b"step-2", None, b"step-3"):
        if content is None:
            place.delete("latest")
        else:
            place.write("latest", content)
        said += [place.open().pointer("latest", 99) for _ in range(2)]

    assert [b"step-1"] * 2 + [b"step-2"] * 2 + [None] * 2 + [b"step-3"] * 2 == said


@pytest.mark.parametrize(("content", "requests"), [(b"step-1", 1), (b"step-2", 2)])
def test_whether_a_pointer_has_changed(place: Place, content: bytes, requests: int) -> None:
    """
    Is asked by one request, and only if it has is the run listed again, for what it names.
    """
    place.write("latest", b"step-1")
    place.open().pointer("latest", 99)
    if content != b"step-1":
        place.write("latest", content)
    store = place.open()
    store.names()
    before = place.location.requests

    said = store.pointer("latest", 99)

    assert (content, ["latest"]) == (said, store.names())
    if before is not None:
        assert before + (requests if place.heeds else 2) == place.location.requests


def test_no_more_of_a_pointer_is_read_than_was_asked_for(place: Place) -> None:
    """
    Something else may have its name, and be large.
    """
    place.write("latest", b"step-1\n")

    assert b"step" == place.open().pointer("latest", 4)


def test_what_comes_after_a_pointer_was_read_is_listed(place: Place) -> None:
    """
    It may be what the pointer names.
    """
    place.write("latest", b"step-1")
    store = place.open()
    store.names()
    store.pointer("latest", 99)
    place.write("step-1/DONE", b"x")

    assert ["latest", "step-1"] == sorted(store.names())


def test_strange_names(place: Place) -> None:
    """
    Listed, asked and read like any other.
    """
    names = ["epoch=0-step=1.ckpt", "a b", "100%", "~x", "ü", "{step}", "a+b"]
    for name in names:
        place.write(f"step-1/{name}", name.encode())
    store = place.open()

    assert tuple(sorted(names)) == store.list("step-1")
    assert [name.encode() for name in names] == [store.read(f"step-1/{n}", 0, 99) for n in names]


def test_each_answer_is_a_sign_of_life(place: Place) -> None:
    """
    Storage that is slow does not hang.
    """
    place.write("step-1/DONE", b"x")
    alive = list[None]()
    store = place.location.open(place.location.profile(), lambda: alive.append(None))

    for ask in (lambda: store.list("step-1"), lambda: store.read("step-1/DONE", 0, 9)):
        before = len(alive)
        ask()
        assert len(alive) > before


def test_a_run_that_is_not_there(tmp_path: Path) -> None:
    """
    It is told from an empty one by an error; and a bucket has no empty ones.
    """
    pytest.importorskip("obstore")
    from obstore.store import MemoryStore

    for place in (local(tmp_path / "none"), bucket(MemoryStore(), "runs/7b")):
        with pytest.raises(FileNotFoundError):
            place.open().names()
        assert ((), None) == (place.open().list(""), place.open().stat("step-1"))


def test_a_file_where_the_run_belongs(tmp_path: Path) -> None:
    """
    It is no directory.
    """
    pytest.importorskip("obstore")
    from obstore.store import MemoryStore

    (tmp_path / "file").touch()
    store = MemoryStore()
    put(store, "runs/7b")

    with pytest.raises(NotADirectoryError):
        local(tmp_path / "file").open().names()
    with pytest.raises(NotADirectoryError):
        bucket(store, "runs/7b").open().names()


def test_an_empty_directory_that_a_console_has_made(server: Server) -> None:
    """
    An object whose key ends with a slash: a directory, and nothing in it.
    """
    server.make_bucket("console")
    request = urllib.request.Request(f"{server.endpoint}/console/runs/", data=b"", method="PUT")
    urllib.request.urlopen(request).close()

    assert [] == bucket(server.store("console"), "runs").open().names()
