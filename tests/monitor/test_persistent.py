"""Persistent disks: one machine mounts one; its file has what was written when the run is over."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest

from disco_trace.errors import DiscoError
from disco_trace.guest import disk as disks
from disco_trace.guest.disk import own_disk, write_back
from disco_trace.guest.resolve import find_guest
from disco_trace.trace.reader import TraceReader
from tests.replay.runs import (
    assert_same,
    assert_sound,
    captured,
    replayed,
    run_guest,
    spec_at,
    without_results,
)

ARGS = ("rounds=1", "os.cache=64")
TWO = {"monitor__kind": "disco", "vm__count": 2, "machine__ram_bytes": "8MiB"}


@pytest.fixture
def image(tmp_path):
    """The disk of `files`, in a file."""
    path = tmp_path / "files.img"
    own_disk(find_guest("files")).words.tofile(path)
    path.chmod(0o640)
    return path


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What the bare machine leaves on the disk of `files`."""
    path = tmp_path_factory.mktemp("bare") / "files.img"
    own_disk(find_guest("files")).words.tofile(path)
    before = path.read_bytes()
    spec = spec_at(1, 1, machine__disks=[f"keep:{path}"])
    result = run_guest("files", spec, path.parent / "t", ARGS)
    after = path.read_bytes()
    changed = sum(a != b for a, b in zip(sectors(before), sectors(after), strict=True))
    assert result.disks == {str(path.resolve()): changed}
    assert changed > 10
    return after


def sectors(data: bytes) -> list[bytes]:
    return [data[at : at + 512] for at in range(0, len(data), 512)]


def test_two_machines_each_with_its_own(tmp_path, image, written):
    second = tmp_path / "second.img"
    second.write_bytes(image.read_bytes())
    spec = spec_at(2, 2, **TWO, machine__disks=[f"keep:{image}", f"keep@1:{second}"])
    result = run_guest("files", spec, tmp_path / "t", ARGS)
    assert result.console.count(b"words checked") == 2
    assert set(result.disks) == {str(image.resolve()), str(second.resolve())}
    assert image.read_bytes() == second.read_bytes() == written
    assert image.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["files.img", "second.img", "t"]


def test_beside_a_disk_that_both_share(tmp_path, image, written):
    """The second machine has the shared disk only, whose file stays as it is."""
    shared = tmp_path / "shared.img"
    shared.write_bytes(image.read_bytes())
    before = shared.read_bytes()
    spec = spec_at(2, 2, **TWO, machine__disks=[f"keep@0:{image}", str(shared)])
    run_guest("files", spec, tmp_path / "t", ARGS)
    assert image.read_bytes() == written
    assert shared.read_bytes() == before
    named = TraceReader(tmp_path / "t").manifest
    assert named.config["machine"]["disks"] == ["keep@0:files.img", "shared.img"]
    assert [disk.persistent for disk in named.guest.disks] == [True, False]


@pytest.mark.parametrize("feedback", ["full", "none"])
def test_replays_repeat_it(tmp_path, image, feedback):
    guests = ("radix:1 keys=1K", "files:1 " + " ".join(ARGS))

    def spec(name):
        disks = [f"keep@1:{name}", "pattern:64KiB"]
        sets = {"machine__disks": disks, "time__feedback": feedback, "vm__guests": guests}
        return spec_at(2, 2, **TWO, **sets)

    run_guest("files", spec(image), tmp_path / "t", ())
    assert_sound(tmp_path / "t")
    expected = captured(tmp_path / "t")
    assert_same(replayed(without_results(tmp_path / "t"), spec(image.name)), expected)


def test_a_run_that_is_cut_off_changes_nothing(tmp_path, image):
    before = image.read_bytes()
    spec = spec_at(1, 1, machine__disks=[f"keep:{image}"])
    result = run_guest("files", spec, tmp_path / "t", ARGS, max_instructions=2_000_000)
    assert "stays as it was" in " ".join(result.warnings)
    assert not result.disks
    assert image.read_bytes() == before


def test_disks_that_cannot_be(tmp_path, image):
    other = tmp_path / "other.img"
    other.hardlink_to(image)
    for text, word in (
        ([f"keep:{image}", f"keep@1:{other}"], "one machine that mounts it"),
        ([f"keep@3:{image}"], "no such machine"),
        ([f"keep:{image}", f"keep@1:{image}"], "one machine that mounts it"),
        (["keep:pattern:64KiB"], "no disk image"),
        ([f"keep@:{image}"], "malformed persistent disk"),
        ([f"keep@100:{image}"], "malformed persistent disk"),
        ([f"ro:keep:{image}"], "malformed persistent disk"),
        ([f"keep:{tmp_path / 'none'}"], "no disk image"),
    ):
        with pytest.raises(DiscoError, match=word):
            run_guest("files", spec_at(2, 2, **TWO, machine__disks=text), tmp_path / "t", ARGS)
    spec = spec_at(1, 1, machine__disks=[f"keep:{image}"])
    with pytest.raises(DiscoError, match="checkpoint cannot hold"):
        run_guest("files", spec, tmp_path / "t", ARGS, save_at=1)
    assert not (tmp_path / "t").exists()


def test_a_failure_leaves_the_old_content(tmp_path, monkeypatch):
    file = tmp_path / "a.img"
    file.write_bytes(bytes(1024))
    held = hashlib.sha256(bytes(1024)).hexdigest()
    words = np.ones(256, np.uint32)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disks.os, "replace", fail)
    with pytest.raises(DiscoError, match="No space left"):
        write_back(file, words, held)
    assert os.listdir(tmp_path) == ["a.img"]
    assert file.read_bytes() == bytes(1024)
    with pytest.raises(DiscoError, match="changed its size"):
        write_back(file, words[:128], held)


def test_what_others_wrote_during_the_run_stays(tmp_path, image):
    """Two runs of one disk: the first to end has written it, the second says that it cannot."""
    spec = spec_at(1, 1, machine__disks=[f"keep:{image}"])
    theirs = bytes(image.stat().st_size)

    def write(_):
        image.write_bytes(theirs)

    with pytest.raises(DiscoError, match="written by others"):
        run_guest("files", spec, tmp_path / "t", ARGS, on_console=write)
    assert image.read_bytes() == theirs
    assert_sound(tmp_path / "t")


def test_a_disk_in_the_trace_that_is_replaced(tmp_path, image):
    """It would be gone with the trace before its new content came."""
    run_guest("hello", spec_at(1, 1), tmp_path / "t", ())
    inside = image.rename(tmp_path / "t" / "files.img")
    spec = spec_at(1, 1, machine__disks=[f"keep:{inside}"])
    with pytest.raises(DiscoError, match="lies in the trace"):
        run_guest("files", spec, tmp_path / "t", ARGS, force=True)
    assert inside.is_file()
    assert_sound(tmp_path / "t")
