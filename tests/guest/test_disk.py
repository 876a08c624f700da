"""Contents of disks: patterns, image files, and guests' own files."""

from __future__ import annotations

import hashlib
import shutil
import struct
from types import SimpleNamespace

import numpy as np
import pytest

from disco_trace.errors import DiscoError
from disco_trace.guest.build import build_guest
from disco_trace.guest.compiler import GCC
from disco_trace.guest.description import read_description
from disco_trace.guest.disk import guest_disk, mix, needs_folder, open_disk, own_disk


def test_mix_is_murmurs_finaliser():
    # Worked out by hand for 1 in arbitrary precision.
    x = 1
    x ^= x >> 16
    x = x * 0x85EBCA6B % 2**32
    x ^= x >> 13
    x = x * 0xC2B2AE35 % 2**32
    x ^= x >> 16
    assert mix(np.array([0, 1], np.uint32)).tolist() == [0, x]


def test_patterns():
    disk = open_disk("pattern:1536")
    assert disk.words.tolist() == mix(np.arange(384, dtype=np.uint32)).tolist()
    assert not disk.read_only
    assert disk.sha256 == hashlib.sha256(disk.words.tobytes()).hexdigest()
    padded = open_disk("ro:pattern:516")
    assert padded.read_only
    assert (padded.words.nbytes, padded.words[129:].any()) == (1024, False)
    assert open_disk("pattern:1MiB").words.nbytes == 1 << 20


@pytest.mark.parametrize("size", ["", "0", "3", "-4", "2GiB", "x", "5GiB", "1e3"])
def test_bad_patterns(size):
    with pytest.raises(DiscoError, match="bad size of a pattern"):
        open_disk(f"pattern:{size}")


def test_an_image_is_mapped_and_never_written(tmp_path):
    path = tmp_path / "a,b.img"
    path.write_bytes(bytes(range(256)) * 4)
    disk = open_disk(f"ro:{path}")
    assert (disk.name, disk.read_only) == ("a,b.img", True)
    assert disk.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    disk.words[0] = 0xFFFFFFFF
    assert disk.words.tobytes()[:8] == b"\xff\xff\xff\xff\4\5\6\7"
    assert path.read_bytes() == bytes(range(256)) * 4


def test_no_images(tmp_path):
    (tmp_path / "odd").write_bytes(bytes(513))
    (tmp_path / "empty").touch()
    for name in ("odd", "empty"):
        with pytest.raises(DiscoError, match="not a disk image"):
            open_disk(str(tmp_path / name))
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(DiscoError) as raised:
            open_disk(str(path))
        assert raised.value.file == str(path)


def test_files_on_a_disk(tmp_path):
    (tmp_path / "text").write_bytes(b"hello" * 1000)
    (tmp_path / "empty").touch()
    disk = guest_disk(None, {"b": "text", "a": "pattern:6000", "none": "empty"}, tmp_path)
    data = disk.words.tobytes()
    assert struct.unpack("<4I", data[:16]) == (0x53465444, 1, 3, 5)
    entries = [struct.unpack("<48sII8x", data[64 * n : 64 * n + 64]) for n in (1, 2, 3, 4)]
    assert [(name.rstrip(b"\0"), page, size) for name, page, size in entries] == [
        (b"a", 1, 6000), (b"b", 3, 5000), (b"none", 5, 0), (b"", 0, 0),
    ]  # fmt: skip
    assert data[4096:10096] == mix(np.arange(1500, dtype=np.uint32)).tobytes()
    assert data[3 * 4096 : 3 * 4096 + 5000] == b"hello" * 1000
    assert len(data) == 5 * 4096
    # In the order of names, whatever the order of the table.
    again = guest_disk(None, {"none": "empty", "a": "pattern:6000", "b": "text"}, tmp_path)
    assert again.sha256 == disk.sha256


@pytest.mark.parametrize(
    "files", [{"x" * 48: "pattern:4"}, {"": "pattern:4"}, {"a": "none"},
              {str(n): "pattern:4" for n in range(64)}]
)  # fmt: skip
def test_bad_files(tmp_path, files):
    with pytest.raises(DiscoError):
        guest_disk(None, files, tmp_path)


def test_description(tmp_path):
    toml = tmp_path / "guest.toml"
    toml.write_text('description = "x"\n[files]\na = "pattern:4KiB"\n')
    assert read_description(toml).files == {"a": "pattern:4KiB"}
    toml.write_text('description = "x"\ndisk = "d"\n[files]\na = "pattern:4KiB"\n')
    with pytest.raises(DiscoError, match="two disks"):
        read_description(toml)
    assert needs_folder("ro:d", {})
    assert not needs_folder("ro:pattern:1KiB", {"a": "pattern:4"})


def test_a_guests_own_disk(tmp_path):
    image = tmp_path / "g.elf"

    def guest(disk=None, files=()):
        return SimpleNamespace(disk=disk, files=dict(files), image=image)

    assert own_disk(guest()) is None
    assert own_disk(guest("ro:pattern:4KiB")).read_only
    assert own_disk(guest(files={"a": "pattern:4KiB"})).words.nbytes == 8192
    with pytest.raises(DiscoError, match="the guest's disk is missing"):
        own_disk(guest("file"))
    (tmp_path / "g.disk").write_bytes(bytes(1024))
    assert own_disk(guest("ro:file")).read_only
    assert own_disk(guest(files={"a": "file"})).words.nbytes == 1024


@pytest.mark.skipif(shutil.which(GCC) is None, reason=f"no {GCC}")
def test_building_writes_the_disk_beside_the_image(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "mine.c").write_text("int main(void) { return 0; }\n")
    (folder / "poem").write_text("so much depends")
    (folder / "guest.toml").write_text('description = "x"\n[files]\npoem = "poem"\n')
    build_guest(folder, tmp_path / "out")
    assert (tmp_path / "out" / "mine.disk").read_bytes()[4096:4111] == b"so much depends"
