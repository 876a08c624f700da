"""The configuration: layers, ranges, ids, and what a replay may change."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from disco_trace import config
from disco_trace.config import Machine, Memory, Placement, Spec, resolve
from disco_trace.config.checks import unused
from disco_trace.config.leaves import leaves
from disco_trace.config.replayable import overall
from disco_trace.config.resolve import costs_names, resolve_with_origins
from disco_trace.config.text import parse_number, parse_size
from disco_trace.config.toml_text import toml_text
from disco_trace.costs.prices import TRAP_CAUSES
from disco_trace.errors import DiscoError
from disco_trace.paths import data_folder


def test_the_published_machine_in_cycles() -> None:
    # 300 MHz: 3.33 ns a cycle, so 300 ns = 90, 900 ns = 270, 33 ns = 9.9, rounded 10.
    cycles = config.latency_cycles(resolve(machine="flash8"))
    assert cycles["local_cycles"] == 90
    assert cycles["remote_cycles"] == 270
    assert cycles["l2_hit_cycles"] == 10
    assert cycles["dirty_cycles"] == 330
    # 67 µs x 300 cycles/µs.
    assert config.price_cycles(resolve())["migrate_cycles"] == 20_100


def test_cycles_round_to_nearest_with_halves_up() -> None:
    assert [config.cycles(ns, 500) for ns in (0, 1, 2, 3)] == [0, 1, 1, 2]  # 0.5 -> 1, 1.5 -> 2
    assert config.cycles(2.5, 300) == 1  # 0.75
    assert config.cycles(67.0 * 1000, 300) == 20_100


@pytest.mark.parametrize("name", config.machine_names())
def test_every_preset_resolves(name: str) -> None:
    spec = resolve(machine=name)
    assert config.from_dict(config.to_dict(spec)) == spec
    assert spec.machine.nodes == spec.machine.cpus


def test_presets_promised_by_the_documentation_exist() -> None:
    assert {"uniprocessor", "flash8", "uma8", "flash4", "flash16"} <= set(config.machine_names())
    assert {"disco", "native"} <= set(costs_names())


def test_uma8_is_flash8_with_near_memory() -> None:
    flash, uma = resolve(machine="flash8"), resolve(machine="uma8")
    changed = config.diff(flash, uma)
    assert changed
    assert all(path.startswith("memory.") and path.endswith("_ns") for path in changed)
    assert uma.memory.remote_ns == uma.memory.local_ns


def test_layers_win_in_order_and_are_named(tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('[machine]\ncpus = 2\nram_bytes = "0x2000000"\n[memory]\nremote_ns = 500\n')
    resolved = resolve_with_origins(machine=mine, policy="migrate", sets=["memory.remote_ns=600"])
    assert resolved.spec.machine.ram_bytes == 32 << 20
    assert resolved.spec.memory.remote_ns == 600
    assert resolved.origins["machine.cpus"] == "mine.toml"
    assert resolved.origins["memory.remote_ns"] == "--set"
    assert resolved.origins["placement.policy"] == "--policy"
    assert resolved.origins["costs.prices.migrate_us"] == "disco.toml"
    assert resolved.origins["time.feedback"] == "default"


def test_a_cost_table_is_part_of_the_specification(tmp_path: Path) -> None:
    table = tmp_path / "dear.toml"
    table.write_text("[prices]\nmigrate_us = 1000\n")
    spec = resolve(costs=table)
    assert (spec.costs.table, spec.costs.prices.migrate_us) == ("dear", 1000.0)
    assert spec.costs.prices.replicate_us == 0.0
    table.write_text("[prices]\nmigrate_us = 999\n")
    assert config.spec_id(resolve(costs=table)) != config.spec_id(spec)


def test_a_set_price_wins_over_the_table_and_survives_as_base() -> None:
    spec = resolve(costs="native", sets=["costs.prices.migrate_us=12.5"])
    assert spec.costs.prices.migrate_us == 12.5
    again = resolve(base=spec, policy="migrate")
    assert config.diff(spec, again) == ["placement.policy"]
    assert resolve(base=spec, costs="disco").costs.prices.migrate_us == 67.0


def test_prices_counted_in_instructions_follow_the_clock(tmp_path: Path) -> None:
    table = tmp_path / "lean.toml"
    table.write_text("[instructions]\nforward = 18\n[prices]\nprivileged_us = 0.5\n")
    for clock, privileged in ((300, 150), (100, 50), (7, 4)):
        spec = resolve(costs=table, sets=[f"machine.clock_mhz={clock}"])
        prices = config.price_cycles(spec)
        assert (prices["forward_cycles"], prices["privileged_cycles"]) == (18, privileged)
        assert prices["interrupt_cycles"] == 0
    captured = resolve(sets=["machine.clock_mhz=250"])
    assert config.price_cycles(resolve(base=captured, costs=table))["forward_cycles"] == 18


@pytest.mark.parametrize("name", costs_names())
def test_tables_that_come_with_the_package_price_each_cause_or_say_nothing(name: str) -> None:
    """A table that prices the monitor at all has thought of every one of its causes."""
    text = (data_folder("capture") / "costs" / f"{name}.toml").read_text()
    missing = [c for c in TRAP_CAUSES if f"\n{c} = " not in text and f"\n{c}_us = " not in text]
    assert missing in ([], list(TRAP_CAUSES))
    assert resolve(costs=name).costs.table == name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[instructions]\nforwards = 1\n", "did you mean costs.prices.forward_us"),
        ("[instructions]\nforward = 1.5\n", "whole number"),
        ("[instructions]\nforward = -1\n", "whole number"),
        ("[instructions]\nforward = true\n", "whole number"),
        ("instructions = 4\n", "is not a table"),
        ("[instructions]\nforward = 1\n[prices]\nforward_us = 1\n", "priced twice"),
        ("[instructions]\nforward = 1000000000\n", "bad value"),
        ("[structure]\ntlb = 1\n", "one of captured, flush, tagged"),
        ("[structure]\ntlb = 'tagd'\n", "one of captured, flush, tagged"),
        ("[structure]\ntbl = 'flush'\n", "did you mean costs.structure.tlb?"),
        ("[structure]\nsoftware_tlb = 1022\n", "a multiple of 4"),
        ("[structure]\nsoftware_tlb = 65540\n", "a whole number from -1 to 65536"),
        ("[structure]\nsoftware_tlb = 'none'\n", "bad value for costs.structure.software_tlb"),
        ("structure = 'tagged'\n", "is not a table"),
    ],
)
def test_a_bad_cost_table_is_named(tmp_path: Path, text: str, words: str) -> None:
    table = tmp_path / "bad.toml"
    table.write_text(text)
    with pytest.raises(DiscoError) as raised:
        resolve(costs=table)
    assert words in f"{raised.value} {raised.value.expected} {raised.value.hint}"
    assert raised.value.file == str(table)


def test_ids_are_stable_and_cover_every_value() -> None:
    spec = resolve(machine="flash8")
    assert config.spec_id(spec) == config.spec_id(resolve(machine="flash8"))
    assert len(config.spec_id(spec)) == 8
    other = resolve(machine="flash8", sets=["time.interval_us=999"])
    assert config.diff(spec, other) == ["time.interval_us"]
    assert config.spec_id(spec) != config.spec_id(other)


def test_the_shown_toml_reads_back(tmp_path: Path) -> None:
    resolved = resolve_with_origins(machine="uma8", sets=["memory.l2.size_bytes=256KiB"])
    text = toml_text(resolved)
    assert tomllib.loads(text)["memory"]["l2"]["size_bytes"] == "256KiB"
    file = tmp_path / "back.toml"
    file.write_text(text)
    assert resolve(machine=file) == resolved.spec


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["machine.cpu=4"], "machine.cpu"),
        (["machine.cpus=65"], "machine.cpus (expected a whole number from 1 to 64"),
        (["machine.cpus=0"], "machine.cpus"),
        (["machine.cpus=1.0"], "machine.cpus"),
        (["machine.cpus=true"], "machine.cpus"),
        (["machine.cpus=" + "9" * 5000], "machine.cpus"),
        (["machine.cpus"], "PATH=VALUE"),
        (["=4"], "PATH=VALUE"),
        (["machine=4"], "group"),
        (["machine.nodes=2"], "every node needs a CPU"),
        (["machine.ram_bytes=100000000"], "multiple of 64KiB"),
        (["machine.ram_bytes=512MiB"], "256MiB"),
        (["machine.ram_bytes=64MB"], "machine.ram_bytes"),
        (["machine.granule_bytes=32"], "granule"),
        (["machine.page_filter_entries=3"], "power of two"),
        (["machine.l1d.ways=3"], "machine.l1d does not divide into sets"),
        (["memory.l2.ways=17"], "memory.l2.ways"),
        (["memory.l2.line_bytes=32"], "second-level line"),
        (["memory.l2.replacement=plru"], "one of"),
        (["memory.local_ns=-1"], "memory.local_ns"),
        (["placement.node=1"], "placement.node"),
        (["placement.node_frames=5"], "do not hold"),
        (["costs.prices.migrate_us=nan"], "migrate_us"),
        (["costs.prices.migrate_us=inf"], "migrate_us"),
        (["vm.count=2"], "needs a monitor"),
        (["vm.vcpus=2"], "needs a monitor"),
        (["machine.kseg0=mapped"], "needs a monitor"),
        (["vm.pool_bytes=4MiB"], "vm.pool_bytes = 0 without one, found 4MiB"),
        (["vm.guests=radix:1,files:2"], "vm.guests = none without one, found radix:1,files:2"),
        (["monitor.kind=disco", "vm.count=64"], "too much memory together"),
        (["monitor.stlb_entries=1022"], "stlb_entries"),
    ],
)
def test_bad_values_are_named(words: list[str], said: str) -> None:
    with pytest.raises(DiscoError) as raised:
        resolve(sets=words)
    assert said in str(raised.value)
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)


def test_a_misspelt_path_suggests_the_nearest() -> None:
    for word, near in {
        "machine.cpu=4": "machine.cpus",
        "cpus=4": "machine.cpus",
        "placement.triger_misses=1": "placement.trigger_misses",
        "memory.l2.size=1": "memory.l2.size_bytes",
        "memory.l2.sz=1": "memory.l2.size_bytes",
        "memory.l2.quux=1": "memory.l2.ways, ",
    }.items():
        with pytest.raises(DiscoError) as raised:
            resolve(sets=[word])
        assert near in (raised.value.hint or "")


@pytest.mark.parametrize(
    "content",
    [
        b"cpus = ",
        b"\xff\xfe\x00",
        b"[machine]\ncpus = 'many'\n",
        b"machine = 3\n",
        b"[machine.cpus]\nx = 1\n",
        b"[[machine]]\ncpus = 1\n",
        b"[nonsense]\n",
        b"x = " + b"[" * 100_000,
        b"#" * 2_000_000,
        b"[machine]\ncpus = 1979-05-27\n",
        b"[machine]\ncpus = " + b"9" * 10_000,
    ],
)
def test_a_hostile_file_gives_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    for option in ("machine", "file"):
        with pytest.raises(DiscoError) as raised:
            resolve(**{option: file})
        assert "bad.toml" in str(raised.value)
        assert len(str(raised.value)) < 600


def test_a_missing_or_unreadable_file_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(DiscoError) as raised:
            resolve(machine=f"{path}/")
        assert str(tmp_path) in str(raised.value)


def test_a_specification_cannot_exist_out_of_range() -> None:
    with pytest.raises(DiscoError):
        Spec(machine=Machine(cpus=1000))
    with pytest.raises(DiscoError):
        Spec(memory=Memory(local_ns=-5))
    with pytest.raises(DiscoError):
        Spec(placement=Placement(policy="nearest"))  # type: ignore[arg-type]
    with pytest.raises(DiscoError):
        msgspec.structs.replace(Spec(), machine=Machine(nodes=2))
    with pytest.raises(AttributeError):
        Spec().machine.cpus = 2  # type: ignore[misc]


def test_the_largest_machine_is_bounded() -> None:
    big = ["machine.cpus=64", "machine.nodes=16", "machine.ram_bytes=256MiB"]
    resolve(sets=big)
    with pytest.raises(DiscoError, match="directory is too large"):
        resolve(
            sets=[
                *big,
                "memory.l2.line_bytes=16",
                "machine.l1i.line_bytes=16",
                "machine.l1d.line_bytes=16",
            ]
        )
    with pytest.raises(DiscoError, match="second-level caches are too large"):
        resolve(sets=[*big, "memory.l2.size_bytes=64MiB"])


@given(st.data())
def test_any_value_gives_a_specification_or_one_clear_error(data: st.DataObject) -> None:
    paths = data.draw(st.lists(st.sampled_from(sorted(leaves())), max_size=4, unique=True))
    numbers = st.integers(-5, 2**40).map(str) | st.integers(0, 20).map(lambda n: str(1 << n))
    texts = (
        numbers
        | st.text("ab.=-_0x9e \n\u00e9", max_size=12)
        | st.sampled_from(["migrate", "mesi", "none", "full"])
    )
    words = [f"{path}={data.draw(texts)}" for path in paths if path != "costs.table"]
    try:
        spec = resolve(sets=words)
    except DiscoError:
        return
    machine, l2 = spec.machine, spec.memory.l2
    for cache in (machine.l1i, machine.l1d, l2):
        sets = cache.size_bytes // (cache.ways * cache.line_bytes)
        assert sets * cache.ways * cache.line_bytes == cache.size_bytes
        assert sets & (sets - 1) == 0
        assert sets > 0
    assert 1 <= machine.nodes <= machine.cpus <= 64
    assert config.from_dict(config.to_dict(spec)) == spec


def test_numbers_and_sizes() -> None:
    assert parse_number("0x10") == 16
    assert parse_number("1_000") == 1000
    assert parse_number("007") == 7
    assert parse_number("2.5") == 2.5
    assert parse_size("256KiB") == 262_144
    assert parse_size(" 0x10 MiB ") == 16 << 20
    assert parse_size("4096") == 4096
    for bad in ("", "KiB", "1.5MiB", "1KB", "-1", "1 TiB", "0x", "_"):
        with pytest.raises(ValueError, match=r".*"):
            parse_size(bad)


def spec_of(feedback: str, *sets: str, cpus: int = 8) -> Spec:
    machine = "flash8" if cpus == 8 else "uniprocessor"
    return resolve(machine=machine, sets=[f"time.feedback={feedback}", *sets])


@pytest.mark.parametrize(
    ("word", "none", "full"),
    [
        ("memory.l2.size_bytes=256KiB", "exact", "no feedback"),
        ("memory.l2.ways=1", "exact", "no feedback"),
        ("memory.l2.replacement=fifo", "exact", "no feedback"),
        ("memory.l2.line_bytes=64", "approximate", "approximate"),
        ("memory.remote_ns=1200", "exact", "no feedback"),
        ("memory.protocol=msi", "exact", "no feedback"),
        ("machine.nodes=2", "exact", "no feedback"),
        ("placement.policy=first-touch", "exact", "no feedback"),
        ("placement.policy=round-robin", "exact", "no feedback"),
        ("placement.policy=single-node", "exact", "no feedback"),
        ("placement.policy=migrate", "approximate", "no feedback"),
        ("placement.policy=migrate-replicate", "approximate", "no feedback"),
        ("placement.trigger_misses=64", "exact", "exact"),  # `guest` does not look at it
        ("costs.prices.migrate_us=1", "exact", "exact"),  # nothing moves
        ("time.interval_us=10", "exact", "exact"),
    ],
)
def test_how_far_a_replay_can_be_trusted(word: str, none: str, full: str) -> None:
    path = word.split("=")[0]
    for feedback, expected in (("none", none), ("full", full)):
        captured = spec_of(feedback)
        wanted = resolve(base=captured, sets=[word])
        assert config.replayable(captured, wanted) == {path: expected}


@pytest.mark.parametrize(
    ("monitor", "word", "none", "full"),
    [
        ("none", "costs.prices.privileged_us=1", "exact", "exact"),  # no such trap
        ("disco", "costs.prices.privileged_us=1", "exact", "no feedback"),
        ("disco", "costs.prices.zero_page_us=1", "exact", "no feedback"),
        ("disco", "costs.prices.migrate_us=1", "exact", "exact"),  # nothing moves
    ],
)
def test_prices_matter_where_there_is_what_they_price(
    monitor: str, word: str, none: str, full: str
) -> None:
    for feedback, expected in (("none", none), ("full", full)):
        captured = spec_of(feedback, f"monitor.kind={monitor}")
        wanted = resolve(base=captured, sets=[word])
        assert config.replayable(captured, wanted) == {word.split("=")[0]: expected}


def test_another_line_size_is_exact_on_one_cpu_without_feedback() -> None:
    captured = spec_of("none", cpus=1)
    wanted = resolve(base=captured, sets=["memory.l2.line_bytes=256"])
    assert config.replayable(captured, wanted) == {"memory.l2.line_bytes": "exact"}


@pytest.mark.parametrize(
    "word",
    [
        "machine.cpus=16",
        "machine.l1d.size_bytes=16KiB",
        "machine.granule_bytes=256",
        "machine.ram_bytes=32MiB",
        "machine.clock_mhz=400",
        "machine.tlb_entries=32",
        "machine.page_filter_entries=1",
        "machine.turn_cycles=100",
        "machine.mult_cycles=4",
        "machine.div_cycles=4",
        "time.feedback=none",
    ],
)
def test_what_a_replay_cannot_change_is_refused(word: str) -> None:
    captured = spec_of("full")
    wanted = resolve(base=captured, sets=[word])
    with pytest.raises(DiscoError) as raised:
        config.replayable(captured, wanted)
    assert word.split("=")[0] in str(raised.value)
    assert raised.value.exit_code == 2


def test_nothing_changed_is_exact() -> None:
    captured = spec_of("full")
    assert config.replayable(captured, captured) == {}
    assert overall({}) == "exact"
    assert overall({"a": "exact", "b": "approximate", "c": "no feedback"}) == "approximate"


def test_values_that_nobody_looks_at_without_a_monitor() -> None:
    """A machine's file serves captures with a monitor and without."""
    sets = ["monitor.slice_us=500", "vm.share=false", "monitor.special_page=false"]
    assert unused(resolve(sets=sets)) == [
        "monitor.slice_us", "monitor.special_page", "vm.share",
    ]  # fmt: skip
    assert unused(resolve(sets=sets, monitor="disco")) == []
    assert unused(resolve()) == []
