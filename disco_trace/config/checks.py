"""Check a specification: each value's range, then what values must be to each other."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final

from disco_trace.config.leaves import leaves, size_text
from disco_trace.config.machines import machines_of, parse_machine, virtual_machines
from disco_trace.errors import DiscoError

if TYPE_CHECKING:
    from disco_trace.config.spec import Cache, L2Cache, Spec, Vm

PAGE_BYTES: Final = 4096
# What only virtual machines can have. Without a monitor it would be another machine.
OTHER_MACHINES: Final = ("vm.count", "vm.vcpus", "vm.guests", "vm.pool_bytes", "machine.kseg0")
# State of the simulated memory system: 32 bytes of directory an entry, 8 bytes a cached line.
# Beyond these a machine of some gigabytes would not hold it.
MOST_DIRECTORY_ENTRIES: Final = 2**27
MOST_CACHED_LINES: Final = 2**24
# The software TLB has sets of four pairs.
SOFTWARE_WAYS: Final = 4
# The least of a pool: an instruction and its handlers need some pages at once, of each virtual CPU.
POOL_PAGES: Final = 64
POOL_PAGES_OF_A_CPU: Final = 16
# Machine addresses of RAM have 32 bits.
MOST_MEMORY_BYTES: Final = 2**32 - 2**28


def check(spec: Spec) -> None:
    """Raise DiscoError if `spec` is not one that can be simulated."""
    for path, leaf in leaves().items():
        value: object = spec
        for name in path.split("."):
            value = getattr(value, name)
        leaf.parse(value)
    _check_machine(spec)
    _check_memory(spec)
    _check_placement(spec)
    _check_monitor(spec)


def _check_machine(spec: Spec) -> None:
    machine = spec.machine
    if machine.nodes > machine.cpus:
        raise DiscoError(
            "every node needs a CPU",
            expected=f"machine.nodes at most machine.cpus = {machine.cpus}",
            found=str(machine.nodes),
        )
    for name, cache in (("machine.l1i", machine.l1i), ("machine.l1d", machine.l1d)):
        _check_cache(name, cache)
        if cache.line_bytes > machine.granule_bytes:
            raise DiscoError(
                "the coherence granule must hold a first-level line",
                expected=f"machine.granule_bytes of at least {cache.line_bytes} ({name})",
                found=str(machine.granule_bytes),
            )


def _check_cache(name: str, cache: Cache | L2Cache) -> None:
    """Check that capacity = sets x ways x line with a power of two of sets."""
    way_bytes, rest = divmod(cache.size_bytes, cache.ways)
    sets, odd = divmod(way_bytes, cache.line_bytes)
    if rest or odd or sets == 0 or sets & (sets - 1):
        raise DiscoError(
            f"{name} does not divide into sets",
            expected=f"size_bytes = ways ({cache.ways}) x line_bytes ({cache.line_bytes})"
            " x a power of two",
            found=size_text(cache.size_bytes),
        )


def _check_memory(spec: Spec) -> None:
    machine, l2 = spec.machine, spec.memory.l2
    _check_cache("memory.l2", l2)
    longest = max(machine.l1i.line_bytes, machine.l1d.line_bytes)
    if l2.line_bytes < longest:
        raise DiscoError(
            "a second-level line must hold a first-level line",
            expected=f"memory.l2.line_bytes of at least {longest}",
            found=str(l2.line_bytes),
        )
    cached = machine.cpus * (l2.size_bytes // l2.line_bytes)
    if cached > MOST_CACHED_LINES:
        raise DiscoError(
            "the second-level caches are too large to simulate",
            expected=f"at most {MOST_CACHED_LINES} lines over all CPUs",
            found=str(cached),
        )


def _check_monitor(spec: Spec) -> None:
    check_software_tlb(spec.costs.structure.software_tlb)
    _check_pool(spec)
    if spec.monitor.kind == "none":
        for path in OTHER_MACHINES:
            value, bare = attrgetter(path)(spec), leaves()[path].default
            if value != bare:
                raise DiscoError(
                    f"{path} needs a monitor",
                    expected=f"{path} = {_shown(path, bare)} without one",
                    found=_shown(path, value),
                    # Not every verb has --monitor.
                    hint="add --set monitor.kind=disco (a capture: --monitor disco)",
                )
        return
    if spec.vm.guests:
        _check_guests(spec.vm)
    # What is shared has addresses of its own.
    memory = machines_of(spec) * spec.machine.ram_bytes
    most = MOST_MEMORY_BYTES // 2 if spec.vm.share else MOST_MEMORY_BYTES
    if memory > most:
        raise DiscoError(
            "the virtual machines have too much memory together",
            expected=f"machines x machine.ram_bytes of at most {size_text(most)}"
            + (", or twice that with vm.share = false" if spec.vm.share else ""),
            found=size_text(memory),
        )


def _shown(path: str, value: object) -> str:
    """Return a value as the words of --set and TOML have it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value) or "none"
    return size_text(value) if path.endswith("_bytes") and isinstance(value, int) else str(value)


def _check_pool(spec: Spec) -> None:
    """Check that the machines' share of real memory lets every virtual CPU make progress."""
    if not spec.vm.pool_bytes:
        if not spec.vm.lending:
            raise DiscoError(
                "vm.lending says how machines share the pool, and there is none",
                expected="vm.pool_bytes, or vm.lending = true",
                found="vm.lending = false and vm.pool_bytes = 0",
                hint="add --set vm.pool_bytes=SIZE",
            )
        return
    sizes = [machine.vcpus for machine in virtual_machines(spec)]
    least = len(sizes) * (POOL_PAGES + max(sizes, default=0) * POOL_PAGES_OF_A_CPU) * PAGE_BYTES
    if spec.vm.pool_bytes < least:
        raise DiscoError(
            "vm.pool_bytes leaves the machines too little to run in",
            expected=f"at least {size_text(least)} for these machines and virtual CPUs",
            found=size_text(spec.vm.pool_bytes),
        )


def check_software_tlb(entries: int) -> None:
    """Raise DiscoError unless a table's software TLB divides into sets."""
    if entries > 0 and entries % SOFTWARE_WAYS:
        raise DiscoError(
            "bad value for costs.structure.software_tlb",
            expected=f"a multiple of {SOFTWARE_WAYS}, 0 for none, or -1 for the captured one",
            found=str(entries),
        )


def unused(spec: Spec) -> list[str]:
    """Return the paths of values that nobody looks at without a monitor.

    A machine's file may have them: it serves captures with a monitor and without.
    """
    if spec.monitor.kind != "none":
        return []
    own = {path: leaf for path, leaf in leaves().items() if path.startswith(("monitor.", "vm."))}
    return [path for path, leaf in own.items() if attrgetter(path)(spec) != leaf.default]


def _check_guests(vm: Vm) -> None:
    for text in vm.guests:
        parse_machine(text)
    if vm.count != len(vm.guests):
        raise DiscoError(
            "every virtual machine needs a guest",
            expected=f"vm.count = {len(vm.guests)}, as many as vm.guests",
            found=str(vm.count),
        )
    if vm.vcpus:
        raise DiscoError(
            "vm.guests says how many virtual CPUs each machine has",
            expected="vm.vcpus = 0",
            found=str(vm.vcpus),
        )


def _check_placement(spec: Spec) -> None:
    machine, placement = spec.machine, spec.placement
    if placement.node >= machine.nodes:
        raise DiscoError(
            "no such node for placement.node",
            expected=f"0 to {machine.nodes - 1} (machine.nodes = {machine.nodes})",
            found=str(placement.node),
        )
    pages = machine.ram_bytes // PAGE_BYTES
    if spec.monitor.kind != "none":
        pages *= spec.vm.count
    if placement.node_frames and placement.node_frames * machine.nodes < pages:
        raise DiscoError(
            "the nodes' frames do not hold the machine's pages",
            expected=f"placement.node_frames of at least {-(-pages // machine.nodes)}",
            found=str(placement.node_frames),
        )
    frames = (placement.node_frames or pages) * machine.nodes
    entries = frames * (PAGE_BYTES // spec.memory.l2.line_bytes)
    if entries > MOST_DIRECTORY_ENTRIES:
        raise DiscoError(
            "the directory is too large to simulate",
            expected=f"at most {MOST_DIRECTORY_ENTRIES} second-level lines in all nodes' frames",
            found=str(entries),
            hint="lower machine.ram_bytes or machine.nodes, set placement.node_frames,"
            " or use longer lines",
        )
