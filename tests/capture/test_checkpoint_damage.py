"""A checkpoint that is damaged, foreign or impossible: one clear line, and nothing is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from disco_trace.errors import DiscoError
from disco_trace.machine import layout as machine
from disco_trace.machine import slots
from disco_trace.machine.layout import CPU_STATE
from disco_trace.memory import layout as memory
from disco_trace.memory.layout import CPU_WORDS, PAGE_WORDS
from disco_trace.trace.check import check
from disco_trace.trace.checkpoint import CHECKPOINT, read_checkpoint
from tests.capture import hostile
from tests.capture.checkpoints import go_on, load, spoil

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    checkpoint = hostile.moving(tmp_path_factory.mktemp("good") / "t")
    # All that the tests spoil is there to be spoilt.
    assert load(checkpoint, "memory.page").reshape(-1, PAGE_WORDS)[:, memory.G_REPLICATED].any()
    assert load(checkpoint, "memory.fill")[memory.F_REPLICAS] > 0
    assert load(checkpoint, "machine.filter").any()
    return checkpoint


def refused(checkpoint: Path, out: Path) -> DiscoError:
    """Go on from a checkpoint, which must be refused before anything is written."""
    with pytest.raises(DiscoError) as caught:
        go_on(checkpoint, out)
    error = caught.value
    assert error.exit_code == 2
    assert "\n" not in str(error)
    assert not out.exists()
    return error


FILES = (CHECKPOINT, "symbols.parquet", "machine.ram.parquet", "machine.g.parquet",
         "memory.l2.parquet", "memory.dir.parquet")  # fmt: skip


@pytest.mark.parametrize("how", ["cut", "flipped", "removed", "empty"])
@pytest.mark.parametrize("file", FILES)
def test_damaged_files(good, tmp_path, file, how):
    bad = shutil.copytree(good, tmp_path / "bad")
    path = bad / file
    data = bytearray(path.read_bytes())
    if how == "removed":
        path.unlink()
    elif how == "flipped":
        data[len(data) // 2] ^= 0x20
        path.write_bytes(data)
    else:
        path.write_bytes(data[: len(data) // 2] if how == "cut" else b"")
    if file == CHECKPOINT and how == "flipped":
        # One letter of JSON may change a number into another: then the arrays contradict it.
        data[data.index(b"seq") + 1] ^= 0x20
        path.write_bytes(data)
    error = refused(bad, tmp_path / "t")
    assert str(bad) in str(error)
    if how != "removed" or file != CHECKPOINT:
        problems = check(good.parents[1])
        assert not problems
        shutil.copytree(good.parents[1], tmp_path / "trace")
        shutil.rmtree(tmp_path / "trace/checkpoints/check")
        shutil.copytree(bad, tmp_path / "trace/checkpoints/check")
        found = [p for p in check(tmp_path / "trace") if p.rule == "checkpoints"]
        assert len(found) == 1
        assert found[0].severity == "error"


def edit(checkpoint: Path, out: Path, change) -> Path:
    shutil.copytree(checkpoint, out)
    document = json.loads((out / CHECKPOINT).read_text())
    change(document)
    (out / CHECKPOINT).write_text(json.dumps(document))
    return out


def set_array(name, **fields):
    def change(document):
        document["state"]["arrays"][name] |= fields

    return change


FOREIGN = {
    "version": (lambda d: d.update(format_version=2), "another version"),
    "no version": (lambda d: d.pop("format_version"), "another version"),
    "no guest": (lambda d: d.pop("guest"), "damaged checkpoint"),
    "no state": (lambda d: d.pop("state"), "damaged checkpoint"),
    "words": (lambda d: d["state"].update(seq="many"), "damaged checkpoint"),
    "negative": (lambda d: d["state"].update(seq=-1), "damaged checkpoint"),
    "huge": (lambda d: d["state"].update(seq=2**70), "damaged checkpoint"),
    "layout": (lambda d: d["state"]["layout"].update(machine="0" * 16), "another version"),
    "no layout": (lambda d: d["state"].update(layout={}), "another version"),
    "array missing": (lambda d: d["state"]["arrays"].pop("machine.tlb"), "not the arrays"),
    "array unknown": (
        lambda d: d["state"]["arrays"].update({"machine.x": d["state"]["arrays"]["machine.g"]}),
        "not the arrays",
    ),
    "path": (
        lambda d: d["state"]["arrays"].update({"../x": d["state"]["arrays"]["machine.g"]}),
        "damaged list of arrays",
    ),
    "float": (set_array("machine.g", dtype="f8"), "damaged list of arrays"),
    "object": (set_array("machine.g", dtype="O"), "damaged list of arrays"),
    "shape": (set_array("machine.g", shape=[-1]), "damaged list of arrays"),
    "too large": (set_array("machine.ram", shape=[2**40]), "damaged list of arrays"),
    "another RAM": (set_array("machine.ram", shape=[2**21]), "an array of another machine"),
    "contexts": (set_array("machine.contexts", shape=[10**6, 5]), "an array of another machine"),
    "few contexts": (set_array("machine.contexts", shape=[5, 256]), "an array of another machine"),
    "type": (set_array("machine.ram", dtype="i4"), "an array of another machine"),
    "config": (lambda d: d["config"]["machine"].update(cpus=0), "bad value for machine.cpus"),
    "unknown config": (lambda d: d["config"].update(x={"y": 1}), "x"),
    "other CPUs": (lambda d: d["config"]["machine"].update(cpus=1, nodes=1), "another machine"),
    "other cache": (
        lambda d: d["config"]["machine"]["l1d"].update(size_bytes=16384), "another machine"
    ),
    "other facts": (lambda d: d["state"].update(seq=d["state"]["seq"] + 1), "seq"),
    "a CPU more": (lambda d: d["state"]["cpus"].append(d["state"]["cpus"][0]), "counters"),
    "context": (lambda d: d["state"]["cpus"][0].update(context=10**6), "in a context"),
    "names": (lambda d: d.update(process_names=["x"]), "names"),
    "rows": (lambda d: d["state"]["rows"].pop("refs"), "counts of rows"),
}  # fmt: skip


@pytest.mark.parametrize("what", FOREIGN)
def test_foreign_descriptions(good, tmp_path, what):
    change, message = FOREIGN[what]
    bad = edit(good, tmp_path / "bad", change)
    error = refused(bad, tmp_path / "t")
    assert message in error.message
    assert str(bad) in str(error)


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "[" * 100_000, "\x00", '{"a": 1}'])
def test_not_a_description(good, tmp_path, text):
    bad = shutil.copytree(good, tmp_path / "bad")
    (bad / CHECKPOINT).write_text(text)
    assert CHECKPOINT in str(refused(bad, tmp_path / "t"))


def at(index, value):
    """Set the word at an index."""

    def change(array):
        array = array.copy()
        array.reshape(-1)[index] = value
        return array

    return change


def used(value=None, add=0, mask=None):
    """Change the first word that is not zero (and has the bits of `mask`)."""

    def change(array):
        array = array.copy()
        flat = array.reshape(-1)
        there = np.flatnonzero(flat if mask is None else (flat & mask) == mask)
        there = there[flat[there] != 0]
        flat[there[0]] = flat[there[0]] + add if value is None else value
        return array

    return change


def s(word, value, cpu=1):
    return "machine.s", at(cpu * CPU_STATE + word, value)


def g(word, value):
    return "machine.g", at(word, value)


def cpu(word, value):
    return "memory.cpu", at(CPU_WORDS + word, value)


def page(word, value=None, add=0):
    """Change a word of the first replicated page."""

    def change(array):
        array = array.copy()
        rows = array.reshape(-1, PAGE_WORDS)
        row = rows[np.flatnonzero(rows[:, memory.G_REPLICATED])[0]]
        row[word] = row[word] + add if value is None else value
        return array

    return "memory.page", change


def twice(array):
    """Put one line into both ways of a set."""
    array = array.copy()
    flat = array.reshape(-1)
    first = np.flatnonzero(flat)[0] & ~1
    flat[first : first + 2] = flat[first : first + 2].max()
    return array


IMPOSSIBLE = {
    "CPU": (*g(machine.G_CPU, 2), "CPU"),
    "negative CPU": (*g(machine.G_CPU, -1), "CPU"),
    "fill of refs": (*g(machine.G_REFS, 1 << 20), "fill of refs"),
    "fill of pages": (*g(machine.G_PAGE_ROWS, -1), "fill of pages"),
    "fill of events": (*g(machine.G_EVENTS, 1 << 18), "fill of events"),
    "console": (*g(machine.G_CONSOLE, 1), "console"),
    "contexts": (*g(machine.G_CONTEXTS, 257), "count of contexts"),
    "no contexts": (*g(machine.G_CONTEXTS, 0), "count of contexts"),
    "ended": (*g(machine.G_EXIT, 1), "end of the run"),
    "saving": (*g(machine.G_SAVE, 1), "flag"),
    "names": (*g(machine.G_NAMES, 1025), "count of names"),
    "fetch line": (*g(machine.G_FETCH_LINE, (1 << 32) + 1), "fetch line"),
    "fetch beyond": (*g(machine.G_FETCH_DELTA, 0x70000000), "fetch line"),
    "fetch askew": (*g(machine.G_FETCH_DELTA, 4), "fetch line"),
    "turn": (*g(machine.G_TURN, -5), "turn"),
    "pc": (*s(machine.S_PC, 1 << 32), "program counter"),
    "next pc": (*s(machine.S_NPC, -4), "next program counter"),
    "slot": (*s(machine.S_SLOT, 2), "flag"),
    "context": (*s(machine.S_CONTEXT, 4 * 256), "context"),
    "phases": (*s(machine.S_PHASE_DEPTH, 13), "depth of phases"),
    "phase": (*s(machine.S_PHASES, -1), "phase"),
    "waker": (*s(machine.S_WAKER, 2), "waker"),
    "reservation": (*s(machine.S_LLADDR, 1 << 41), "reservation"),
    "pending": (*s(machine.S_PENDING, -1), "number"),
    "deadline": (*s(machine.S_DEADLINE, -1), "time ahead"),
    "interrupt on its way": (*s(machine.S_IPI_AT, -1), "time ahead"),
    "lock-up": (*s(machine.S_FRUITLESS, 1 << 15), "count of exceptions"),
    "waiting": (*s(machine.S_WAITING, 3), "wait"),
    "next device": (*g(machine.G_DUE, 5), "time of the next device"),
    "device of the line": (*g(machine.G_LINE_SLOT, 8), "device"),
    "processor": ("machine.cp0", at(machine.PRID, 0), "register 120"),
    "device": ("machine.virtio", at(0, 1), "device in slot 0"),
    "pages of a frame": (
        "machine.virtio", at(slots.FIRST_PORT * slots.SLOT_WORDS + slots.V_SOURCES, 2),
        "whole pages of a frame",
    ),
    "register 0": ("machine.gpr", at(0, 1), "register 0"),
    "page mask": ("machine.tlb", at(machine.T_MASK, 1), "page mask"),
    "filter frame": ("machine.filter", used(add=0x0F000000), "frame"),
    "filter place": ("machine.filter", used(add=1 << 32), "place of entry"),
    "filter flags": ("machine.filter", used(add=8), "flags"),
    "table of contexts": ("machine.contexts", at(1, 2), "CPU"),
    "process": ("machine.processes", at(0, 5000), "name"),
    "uart": ("machine.uart", at(3, 256), "register"),
    "node": (*cpu(memory.C_NODE, 0), "node of CPU"),
    "clock": (*cpu(memory.C_CLOCK, -1), "clock"),
    "memory context": (*cpu(memory.C_CONTEXT, 1023), "context"),
    "interval": (*cpu(memory.C_INTERVAL_START, 0), "interval"),
    "results": ("memory.fill", at(memory.F_MISSES, 1), "count of results"),
    "turn of nodes": ("memory.fill", at(memory.F_ROUND_ROBIN, 2), "node in turn"),
    "random": ("memory.fill", at(memory.F_RANDOM, 1 << 31), "random number"),
    "replicas": ("memory.fill", at(memory.F_REPLICAS, 0), "count of replicas"),
    "line": ("memory.l1", used(value=1 << 40), "line"),
    "negative line": ("memory.l1", used(value=-2), "line"),
    "tag 1": ("memory.l1", used(value=1), "line"),
    "another set": ("memory.l1", used(add=2), "line in a set"),
    "line twice": ("memory.l1", twice, "line in two ways"),
    "absent line": ("memory.l1", used(value=0), "of a granule"),
    "order": ("memory.l1", lambda a: at(a.size // 2 - 9, 0)(a), "order of the ways"),
    "padding": ("memory.l1", lambda a: at(a.size - 1, 1)(a), "behind the sets"),
    "holders": ("memory.presence", used(add=4), "holders of a granule"),
    "dirty lines": ("memory.presence", used(add=256, mask=256), "dirty lines"),
    "counts": ("memory.counts", used(add=1), "lines of a granule"),
    "stray count": ("memory.counts", at(0, 1), "lines of a granule"),
    "second-level line": ("memory.l2", used(value=(1 << 40) | 1), "line"),
    "state": ("memory.l2", used(add=-3, mask=3), "state of a line"),
    "second-level set": ("memory.l2", used(add=4), "line in a set"),
    "second-level twice": ("memory.l2", twice, "line in two ways"),
    "second-level order": ("memory.l2", lambda a: at(a.size // 2 - 9, 17)(a), "order of the ways"),
    "unknown owner": ("memory.dir", lambda a: used_owner(a, 3), "owner"),
    "dirty without owner": ("memory.dir", lambda a: used_owner(a, 256), "dirty line"),
    "owner's flags": ("memory.dir", lambda a: used_owner(a, 1 << 20), "owner"),
    "seen": ("memory.dir", at(memory.D_SEEN, 4), "mask of CPUs"),
    "sharers": ("memory.dir", at(memory.D_SHARERS, 1), "sharers of a line"),
    "frame": ("memory.frame_at", used(value=1 << 30), "frame"),
    "negative frame": ("memory.frame_at", used(value=-2), "frame"),
    "half placed": ("memory.frame_at", used(value=-1), "page"),
    "page of frame": ("memory.frame_page", used(add=1), "page of frame"),
    "page": ("memory.frame_page", used(value=1 << 30), "page"),
    "free depth": ("memory.free", at(0, 5000), "depth"),
    "free frame": ("memory.free", at(1, -1), "frame"),
    "frame lost": ("memory.node_next", used(add=-1), "frame"),
    "frames beyond": ("memory.node_next", used(value=1 << 20), "frame"),
    "replicated": (*page(memory.G_REPLICATED, 2), "flag"),
    "not replicated": (*page(memory.G_REPLICATED, 0), "page that is not replicated"),
    "master": (*page(memory.G_MASTER, 1 << 30), "master"),
    "foreign master": (*page(memory.G_MASTER, add=1), "master of a replicated page"),
    "hot": ("memory.hot", at(0, -1), "count"),
}  # fmt: skip


def used_owner(array, value):
    array = array.copy()
    array[memory.D_OWNER :: 4][np.flatnonzero(array[memory.D_OWNER :: 4])[0]] = value
    return array


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_impossible_values(good, tmp_path, what):
    name, change, message = IMPOSSIBLE[what]
    bad = spoil(good, tmp_path / "bad", name, change)
    error = refused(bad, tmp_path / "t")
    assert error.message.startswith("impossible state")
    assert message in error.message
    assert error.expected
    assert error.found


@pytest.mark.parametrize("dtype", ["i4", "u8"])
def test_another_array_in_the_file(good, tmp_path, dtype):
    """The file is whole, its hash is right, but it holds another type, or fewer values."""
    bad = spoil(good, tmp_path / "bad", "machine.g", lambda a: a.astype(dtype))
    document = json.loads((bad / CHECKPOINT).read_text())
    document["state"]["arrays"]["machine.g"]["dtype"] = "i8"
    (bad / CHECKPOINT).write_text(json.dumps(document))
    assert refused(bad, tmp_path / "t").message == "another array than was promised"
    fewer = spoil(good, tmp_path / "fewer", "machine.g", lambda a: a[:-1])
    document = json.loads((fewer / CHECKPOINT).read_text())
    document["state"]["arrays"]["machine.g"]["shape"] = [machine.N_G]
    (fewer / CHECKPOINT).write_text(json.dumps(document))
    assert refused(fewer, tmp_path / "t").message == "another array than was promised"


def test_words_that_were_not_decoded(good, tmp_path):
    """Operation codes are only believed as "decoded": any nonsense goes on as before."""
    bad = spoil(good, tmp_path / "bad", "machine.ops", lambda a: np.where(a, 255, 0).astype("u1"))
    one, other = go_on(good, tmp_path / "a"), go_on(bad, tmp_path / "b")
    assert one.registers == other.registers
    assert one.per_cpu == other.per_cpu


NAMES = st.sampled_from([
    f"{part}.{name}" for part, names in (
        ("memory", ("cpu", "fill", "l1", "presence", "counts", "l2", "dir", "frame_at",
                    "frame_page", "node_next", "free", "page", "hot")),
        ("machine", ("g", "gpr", "cp0", "s", "tlb", "filter", "hint", "contexts", "processes",
                     "names", "uart", "virtio", "frames", "disk", "ram", "ops", "mon")),
    ) for name in names
])  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(name=NAMES, spoils=hostile.SPOILS)
def test_any_values(good, tmp_path, name, spoils):
    """Whatever an array holds, the machine goes on or is refused: it never leaves its arrays."""
    end = hostile.outcome_of(good, tmp_path, name, spoils)
    if name in ("machine.ram", "machine.gpr", "machine.cp0"):
        # A guest can make all of it but register 0, and what says which processor it is.
        assert end == "done" or "impossible state: register" in end
    elif end != "done":
        assert "impossible state" in end or "not those of the arrays" in end


def test_names_are_all(good):
    """The test above spoils every array but those of which any value is right."""
    free = {"machine.fpr", "memory.alias"}  # the bare machine's pages have no other names
    known = set(NAMES.elements) | free
    assert known == set(read_checkpoint(good).state.arrays)


@pytest.mark.slow
def test_no_index_leaves_its_array():
    """Many spoilt checkpoints with every index checked (minutes to compile)."""
    hostile.assert_indices_stay("1", "600")
