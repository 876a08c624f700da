"""Raw images, files put into memory, entries and dumps; and what is refused before it begins."""

from __future__ import annotations

import pytest

from disco_trace.guest.elf import load_image
from disco_trace.guest.resolve import find_guest
from disco_trace.trace.reader import TraceReader
from tests.capture.words import T0, T1, T2, addiu, address, image, lw, power_off, sw
from tests.replay.runs import assert_same, assert_sound, captured, replayed, spec_at

# A raw image begins where it is told to.
RAW = ("--entry", "0x80000000")
ONE = ("--set", "machine.cpus=1", "--set", "machine.nodes=1", "--set", "machine.ram_bytes=1MiB")


def test_a_raw_image(tmp_path, cli):
    path = image(tmp_path / "five.bin", [addiu(T1, 0, 5), *power_off(T1)])
    refused = cli("capture", path, *ONE, "-o", tmp_path / "t")
    assert refused["exit_code"] == 2
    assert "--entry" in refused["error"]["expected"]
    assert not (tmp_path / "t").exists()
    answer = cli("capture", path, *ONE, *RAW, "-o", tmp_path / "t")
    assert (answer["exit_code"], answer["guest_exit_status"]) == (4, 5)
    assert answer["totals"]["instructions"] == 4
    assert answer["registers"][0]["r9"] == 5
    assert_sound(tmp_path / "t")
    manifest = TraceReader(tmp_path / "t").manifest
    assert manifest.guest.name == "five"


def test_another_entry(tmp_path, cli):
    path = image(tmp_path / "e.bin", [addiu(T1, 0, 5), addiu(T1, T1, 2), *power_off(T1)])
    first = cli("capture", path, *ONE, *RAW, "-o", tmp_path / "a")
    second = cli("capture", path, *ONE, "-o", tmp_path / "b", "--entry", "0x80000004")
    assert (first["guest_exit_status"], second["guest_exit_status"]) == (7, 2)
    assert TraceReader(tmp_path / "a").trace_id != TraceReader(tmp_path / "b").trace_id


def test_loaded_files_and_dumps(tmp_path, cli):
    words = [
        *address(T0, 0x80004000), lw(T1, 0, T0), lw(T2, 4, T0),
        sw(T2, 0x100, T0), sw(T1, 0x104, T0), *power_off(0),
    ]  # fmt: skip
    path = image(tmp_path / "copy.bin", words)
    data = tmp_path / "data@odd"
    data.write_bytes(b"disco ok")
    spec = ("-o", tmp_path / "t", "--load", f"{data}@0x4000")
    dumps = (
        "--dump", f"0x4000:8={tmp_path / 'in'}",
        "--dump", f"0x4100:8={tmp_path / 'out'}",
        "--dump", f"0xffffe:2={tmp_path / 'end'}",
    )  # fmt: skip
    answer = cli("capture", path, *ONE, *RAW, *spec, *dumps)
    assert answer["exit_code"] == 0
    assert (tmp_path / "in").read_bytes() == b"disco ok"
    assert (tmp_path / "out").read_bytes() == b"o ok" + b"disc"
    assert len((tmp_path / "end").read_bytes()) == 2
    assert_sound(tmp_path / "t")
    # What is loaded is part of what the trace was made from, its file name is not.
    first = TraceReader(tmp_path / "t").trace_id
    data.rename(tmp_path / "other")
    load = ("--load", f"{tmp_path / 'other'}@0x4000")
    cli("capture", path, *ONE, *RAW, "-o", tmp_path / "u", *load)
    assert TraceReader(tmp_path / "u").trace_id == first
    (tmp_path / "other").write_bytes(b"disco OK")
    load = ("--load", f"{tmp_path / 'other'}@0x4000")
    cli("capture", path, *ONE, *RAW, "-o", tmp_path / "v", *load)
    assert TraceReader(tmp_path / "v").trace_id != first


def test_an_elf_file_by_its_path(tmp_path, cli):
    path = find_guest("hello").image
    by_name = cli("capture", "hello", *ONE[:4], "-o", tmp_path / "a")
    by_path = cli("capture", path, *ONE[:4], "-o", tmp_path / "b")
    assert by_name["totals"] == by_path["totals"]
    entry = load_image(path, 64 << 20).entry
    again = cli("capture", path, *ONE[:4], "-o", tmp_path / "c", "--entry", hex(entry))
    assert again["totals"] == by_name["totals"]
    spec = spec_at(1, 1)
    assert_same(replayed(tmp_path / "a", spec), captured(tmp_path / "a"))


@pytest.mark.parametrize(
    "words",
    [
        ("--load", "nothing-there@0x1000"),
        ("--load", "five.bin@0xfffff"),
        ("--load", "five.bin@0x100000000"),
        ("--load", "five.bin@-4"),
        ("--load", "five.bin"),
        ("--entry", "0x100000000"),
        ("--entry", "0x80000002"),
        ("--entry", "main"),
        ("--dump", "0xfffff:2=out"),
        ("--dump", "0x1000:0=out"),
        ("--dump", "0x1000=out"),
        ("--stop-at", "-1"),
        ("--max-instructions", "0"),
        ("--max-bytes", "many"),
        ("--set", "machine.kseg0=mapped"),
        ("--monitor", "disco"),
        ("--resume", "there"),
        ("--vms", "2"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_is_refused_and_leaves_nothing(tmp_path, monkeypatch, cli, words):
    monkeypatch.chdir(tmp_path)
    path = image(tmp_path / "five.bin", [addiu(T1, 0, 5), *power_off(T1)])
    entry = () if "--entry" in words else RAW
    answer = cli("capture", path, *ONE, "-o", tmp_path / "t", *entry, *words)
    assert answer["exit_code"] == 2
    assert answer["error"]["message"]
    assert "\n" not in answer["error"]["message"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["five.bin"]


def test_too_many_arguments(tmp_path, cli):
    answer = cli("capture", "hello", "-o", tmp_path / "t", "--", *["x" * 100] * 50)
    assert answer["exit_code"] == 2
    assert "4096 bytes" in answer["error"]["expected"]
    assert not (tmp_path / "t").exists()


def test_a_dump_that_cannot_be_written_keeps_the_trace(tmp_path, cli):
    path = image(tmp_path / "zero.bin", power_off(0))
    bad = tmp_path / "no" / "such"
    answer = cli("capture", path, *ONE, *RAW, "-o", tmp_path / "t", "--dump", f"0:4={bad}")
    assert answer["exit_code"] == 2
    assert answer["error"]["file"] == str(bad)
    assert TraceReader(tmp_path / "t").complete
    assert_sound(tmp_path / "t")
