"""Define every value of a configuration: its range, its default, its unit, its meaning.

The defaults are the published machine (a FLASH-like multiprocessor of R10000 processors) on one
CPU; what is assumed and not published says so. Ranges are enforced by `checks`, for every `Spec`.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, get_args

import msgspec
from msgspec import Meta

from disco_trace.config.text import MOST_TEXT
from disco_trace.costs import Prices

KIB: Final = 1024
MIB: Final = 1024 * KIB

Policy = Literal[
    "guest",
    "first-touch",
    "round-robin",
    "single-node",
    "best-static",
    "migrate",
    "replicate",
    "migrate-replicate",
    "origin",
]
POLICIES: Final = get_args(Policy)
STATIC_POLICIES: Final = ("guest", "first-touch", "round-robin", "single-node", "best-static")
MOVING_POLICIES: Final = ("migrate", "replicate", "migrate-replicate", "origin")

_POWER: Final = {"power_of_two": True}

# A millisecond for one reference, and a second for one period: no sum of them overflows a clock.
Latency = Annotated[int, Meta(ge=0, le=1_000_000)]


# An image file, or `pattern:SIZE` for numbers that a guest can check; `ro:` before it for a disk
# that refuses writes. Writes go to the run's own copy, never to the file, but for `keep:FILE` or
# `keep@N:FILE`: a persistent disk of one machine, written back when the run is over.
DiskName = Annotated[str, Meta(min_length=1, max_length=MOST_TEXT)]


# One virtual machine: its guest, its virtual CPUs, its arguments (see `config.machines`).
MachineWords = Annotated[str, Meta(min_length=1, max_length=MOST_TEXT)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Share what every part of a specification is: frozen, by keyword, nothing unknown."""


class Cache(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe one first-level cache; virtually indexed, replaced least recently used first."""

    size_bytes: Annotated[int, Meta(ge=64, le=1 * MIB, description="capacity")] = 32 * KIB
    ways: Annotated[int, Meta(ge=1, le=16, description="associativity")] = 2
    line_bytes: Annotated[
        int, Meta(ge=16, le=4096, description="line length", extra=_POWER)
    ] = 32  # fmt: skip


class L2Cache(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe the second-level cache of each CPU; physically indexed, unified."""

    size_bytes: Annotated[int, Meta(ge=1 * KIB, le=64 * MIB, description="capacity")] = 1 * MIB
    ways: Annotated[int, Meta(ge=1, le=16, description="associativity")] = 2
    line_bytes: Annotated[
        int, Meta(ge=16, le=4096, description="line length", extra=_POWER)
    ] = 128  # fmt: skip
    replacement: Annotated[
        Literal["lru", "fifo", "random"], Meta(description="which line of a set is evicted")
    ] = "lru"


class Machine(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe what a guest runs on, down to the first-level caches: what a replay cannot change.

    CPU c belongs to node `c * nodes // cpus`. Costs of multiplies, divides and floating point are
    whole latencies in cycles, those of the MIPS R10000; every other instruction takes one cycle.
    """

    cpus: Annotated[int, Meta(ge=1, le=64, description="processors")] = 1
    nodes: Annotated[int, Meta(ge=1, le=16, description="nodes, each with CPUs and memory")] = 1
    clock_mhz: Annotated[int, Meta(ge=1, le=10_000, description="clock of every CPU")] = 300
    ram_bytes: Annotated[
        int,
        Meta(ge=1 * MIB, le=256 * MIB, multiple_of=64 * KIB, description="memory of all nodes"),
    ] = 64 * MIB
    kseg0: Annotated[
        Literal["direct", "mapped"],
        Meta(description="whether supervisor references to KSEG0 go through the TLB"),
    ] = "direct"
    tlb_entries: Annotated[int, Meta(ge=8, le=64, description="paired TLB entries")] = 64
    l1i: Annotated[Cache, Meta(description="first-level instruction cache")] = Cache(line_bytes=64)
    l1d: Annotated[Cache, Meta(description="first-level data cache")] = Cache(line_bytes=32)
    granule_bytes: Annotated[
        int, Meta(ge=16, le=4096, description="first-level coherence unit", extra=_POWER)
    ] = 128
    page_filter_entries: Annotated[
        int,
        Meta(ge=1, le=64, description="pages remembered between page references", extra=_POWER),
    ] = 8
    fpu: Annotated[bool, Meta(description="whether the CPUs have a floating-point unit")] = True
    turn_cycles: Annotated[int, Meta(ge=1, le=200, description="longest turn of a CPU")] = 200
    mult_cycles: Annotated[int, Meta(ge=1, le=1000, description="whole cost of a multiply")] = 5
    div_cycles: Annotated[int, Meta(ge=1, le=1000, description="whole cost of a divide")] = 35
    fpu_add_cycles: Annotated[
        int, Meta(ge=1, le=1000, description="floating-point add, subtract, compare, convert")
    ] = 2
    fpu_mul_cycles: Annotated[int, Meta(ge=1, le=1000, description="floating-point multiply")] = 2
    fpu_madd_cycles: Annotated[
        int, Meta(ge=1, le=1000, description="floating-point multiply and add")
    ] = 4
    fpu_div_single_cycles: Annotated[
        int, Meta(ge=1, le=1000, description="single divide, reciprocal")
    ] = 12
    fpu_div_double_cycles: Annotated[
        int, Meta(ge=1, le=1000, description="double divide, reciprocal")
    ] = 19
    fpu_sqrt_single_cycles: Annotated[
        int, Meta(ge=1, le=1000, description="single square root")
    ] = 18
    fpu_sqrt_double_cycles: Annotated[
        int, Meta(ge=1, le=1000, description="double square root")
    ] = 33
    fpu_rsqrt_single_cycles: Annotated[
        int, Meta(ge=1, le=1000, description="single reciprocal square root")
    ] = 30
    fpu_rsqrt_double_cycles: Annotated[
        int, Meta(ge=1, le=1000, description="double reciprocal square root")
    ] = 52
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1, description="seed of simulated randomness")] = 0
    disks: Annotated[
        tuple[DiskName, ...],
        Meta(
            max_length=4,
            description="disks in place of the guest's own: FILE, pattern:SIZE, ro:…, keep@VM:…",
        ),
    ] = ()
    disk_latency_ns: Annotated[
        int,
        Meta(ge=0, le=1_000_000_000, description="time before a disk moves data (assumed)"),
    ] = 2_000_000
    disk_mbytes_per_s: Annotated[
        int, Meta(ge=1, le=1_000_000, description="bandwidth of a disk's medium (assumed)")
    ] = 20
    network_ports: Annotated[
        int, Meta(ge=0, le=4, description="network devices, all on one switch")
    ] = 2
    network_latency_ns: Annotated[
        int, Meta(ge=0, le=1_000_000_000, description="time before a frame leaves (assumed)")
    ] = 20_000
    network_mbits_per_s: Annotated[
        int, Meta(ge=1, le=1_000_000, description="bandwidth of the network (assumed)")
    ] = 100


class Memory(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe what lies below the first level: second level, coherence, latencies.

    Local and remote latencies are printed in the SOSP 1997 paper (300 and 900 ns, uncontended);
    the others are assumed in proportion.
    """

    l2: Annotated[L2Cache, Meta(description="second-level cache of each CPU")] = L2Cache()
    protocol: Annotated[Literal["mesi", "msi"], Meta(description="coherence protocol")] = "mesi"
    l2_hit_ns: Annotated[Latency, Meta(description="second-level hit (assumed: 10 cycles)")] = 33
    local_ns: Annotated[Latency, Meta(description="miss served by the own node (printed)")] = 300
    remote_ns: Annotated[Latency, Meta(description="miss served by another (printed)")] = 900
    dirty_ns: Annotated[
        Latency, Meta(description="miss served by another CPU's cache (assumed)")
    ] = 1100
    upgrade_local_ns: Annotated[
        Latency, Meta(description="permission to write, own node (assumed)")
    ] = 300
    upgrade_remote_ns: Annotated[
        Latency, Meta(description="permission to write, other node (assumed)")
    ] = 900
    uncached_local_ns: Annotated[
        Latency, Meta(description="uncached reference, own node (assumed)")
    ] = 300
    uncached_remote_ns: Annotated[
        Latency, Meta(description="uncached reference, other node (assumed)")
    ] = 900
    device_ns: Annotated[Latency, Meta(description="reference to a device (assumed)")] = 300


class Placement(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe which node's memory holds a page. Thresholds are those recalled of ASPLOS 1996."""

    policy: Annotated[Policy, Meta(description="page placement policy")] = "guest"
    initial: Annotated[
        Literal["guest", "first-touch", "round-robin", "single-node"],
        Meta(description="where a policy that moves pages puts them first"),
    ] = "guest"
    node: Annotated[int, Meta(ge=0, le=15, description="the node of single-node")] = 0
    trigger_misses: Annotated[
        int, Meta(ge=1, le=2**31 - 1, description="misses that make a page hot")
    ] = 128
    sharing_misses: Annotated[
        int, Meta(ge=1, le=2**31 - 1, description="misses of another node that make it shared")
    ] = 32
    write_misses: Annotated[
        int, Meta(ge=0, le=2**31 - 1, description="writes above which it is not replicated")
    ] = 1
    migrate_limit: Annotated[
        int, Meta(ge=0, le=2**31 - 1, description="migrations of a page in a reset interval")
    ] = 1
    reset_ms: Annotated[int, Meta(ge=1, le=1_000_000, description="counters' reset interval")] = 100
    max_moves_per_page: Annotated[
        int, Meta(ge=0, le=2**31 - 1, description="moves of a page in a run, 0 = no cap")
    ] = 0
    node_frames: Annotated[
        int, Meta(ge=0, le=65536, description="frames of a node, 0 = all pages fit")
    ] = 0
    retouch_phase: Annotated[
        int, Meta(ge=0, le=32767, description="phase that deals first touch again, 0 = none")
    ] = 0


class Monitor(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe what runs below the guest's kernel."""

    kind: Annotated[Literal["none", "disco"], Meta(description="virtual machine monitor")] = "none"
    stlb_entries: Annotated[
        int,
        Meta(ge=0, le=65536, multiple_of=4, description="software TLB of a virtual CPU, 0 = none"),
    ] = 1024
    slice_us: Annotated[
        int, Meta(ge=10, le=1_000_000, description="time slice of a virtual CPU (assumed)")
    ] = 10_000
    special_page: Annotated[
        bool,
        Meta(description="offer guests privileged registers on a page instead of by traps"),
    ] = True


class Vm(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe the virtual machines."""

    count: Annotated[int, Meta(ge=1, le=64, description="virtual machines")] = 1
    vcpus: Annotated[
        int, Meta(ge=0, le=64, description="virtual CPUs of each, 0 = the CPUs shared out")
    ] = 0
    guests: Annotated[
        tuple[MachineWords, ...],
        Meta(max_length=64, description="what each runs, as GUEST:VCPUS ARG…; none: all the same"),
    ] = ()
    share: Annotated[
        bool, Meta(description="share images, disk blocks and messages copy on write")
    ] = True
    subnet: Annotated[
        bool, Meta(description="the ports of all machines are on one network, not each machine's")
    ] = True
    pool_bytes: Annotated[
        int,
        Meta(
            ge=0, le=4096 * MIB, multiple_of=4 * KIB,
            description="real memory of all machines together, in equal shares; 0 = all fits",
        ),
    ] = 0  # fmt: skip
    lending: Annotated[
        bool, Meta(description="a machine above its share takes frames that nobody uses")
    ] = True


# In place of a structure: the one that the capture had, which is Disco's unless it said otherwise.
AS_CAPTURED: Final = "captured"


class Structure(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe how the monitor's TLBs are built, where a table asks for other than captured."""

    tlb: Annotated[
        Literal["captured", "flush", "tagged"],
        Meta(description="hardware TLB at a switch of virtual CPU: emptied, or entries tagged"),
    ] = "captured"
    software_tlb: Annotated[
        int,
        Meta(ge=-1, le=65536, description="software TLB of a virtual CPU, 0 = none, -1 = captured"),
    ] = -1
    kernel: Annotated[
        Literal["captured", "mapped", "unmapped"],
        Meta(description="whether the guest kernel's direct segments take TLB entries"),
    ] = "captured"
    walk: Annotated[
        Literal["captured", "software", "nested"],
        Meta(description="who fills the hardware TLB: traps, or hardware in two dimensions"),
    ] = "captured"


class Costs(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold the resolved cost table: its name, and what stood in it."""

    table: Annotated[
        str, Meta(min_length=1, max_length=200, description="cost table: a name or a TOML file")
    ] = "disco"
    prices: Annotated[Prices, Meta(description="prices")] = Prices()
    structure: Annotated[Structure, Meta(description="structure")] = Structure()


class Time(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe whose clock the guest sees, and how finely results follow time."""

    feedback: Annotated[
        Literal["full", "none"],
        Meta(description="whether stalls and monitor work take guest-visible time"),
    ] = "full"
    interval_us: Annotated[
        int, Meta(ge=1, le=1_000_000, description="resolution of time series")
    ] = 1000


class Spec(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Describe a run completely. Constructing one checks it: DiscoError names what is wrong.

    The default constructor has no prices (`costs.prices` are zero); `resolve()` reads the table.
    """

    machine: Machine = Machine()
    memory: Memory = Memory()
    placement: Placement = Placement()
    monitor: Monitor = Monitor()
    vm: Vm = Vm()
    costs: Costs = Costs()
    time: Time = Time()

    def __post_init__(self) -> None:
        from disco_trace.config.checks import check

        check(self)
