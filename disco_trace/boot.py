"""Put guests into memory: the machine as it is when it starts, bare or with virtual machines."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from disco_trace.config import to_dict
from disco_trace.config.machines import VirtualMachine, deprivileged, virtual_machines
from disco_trace.errors import DiscoError
from disco_trace.guest.disk import Disk, open_disk, own_disk
from disco_trace.guest.elf import Image, load_image
from disco_trace.guest.resolve import Guest, guest_to_run
from disco_trace.machine import layout as machine_layout
from disco_trace.machine.arguments import place_arguments
from disco_trace.machine.layout import Machine
from disco_trace.machine.slots import SLOTS, V_DISK_AT, V_PERSISTENT, V_SECTORS
from disco_trace.monitor.images import share_images
from disco_trace.monitor.layout import VM_FIRST, VM_VCPUS, load_vcpu, shown_pages, vm_record
from disco_trace.requests import CaptureRequest

# General registers that a CPU starts with: argc, argv, bytes of memory.
A0, A1, A3 = 4, 5, 7


@dataclass(frozen=True)
class Start:
    """Say what one machine starts with; `word` is how the guest was asked for."""

    word: str
    guest: Guest
    image: Image
    args: tuple[str, ...]


def starts_of(request: CaptureRequest) -> list[Start]:
    """Return what each machine starts with; of the bare machine, the one.

    Raises DiscoError for a guest that is not there or does not fit, and for options that could
    mean any of several guests.
    """
    spec = request.spec
    if spec.vm.guests and (request.load or request.entry is not None):
        raise DiscoError(
            "files and an entry are for machines that all run one guest",
            expected="no --load and no --entry where vm.guests is set",
            found=f"{len(spec.vm.guests)} machines",
        )
    known: dict[VirtualMachine, Start] = {}
    machines = virtual_machines(spec) or [VirtualMachine(spec.machine.cpus)]
    for machine in machines:
        if machine not in known:
            known[machine] = _start(request, machine)
    if all(start.word != request.guest for start in known.values()):
        raise DiscoError(
            f"no machine runs {request.guest}",
            expected="the capture's guest in vm.guests",
            found=", ".join(start.word for start in known.values()),
        )
    return [known[machine] for machine in machines]


def _start(request: CaptureRequest, machine: VirtualMachine) -> Start:
    spec = request.spec
    word = machine.guest or request.guest
    guest = guest_to_run(word, deprivileged=deprivileged(spec))
    image = load_image(guest.image, spec.machine.ram_bytes, name=guest.name, entry=request.entry)
    args = machine.args if machine.guest else tuple(request.args)
    return Start(word, guest, image, args or tuple(guest.arguments))


def disks_of(request: CaptureRequest, starts: list[Start]) -> list[Disk]:
    """Return the machine's disks: those of its specification, or the guest's own."""
    if request.spec.machine.disks:
        disks = [open_disk(text) for text in request.spec.machine.disks]
        check_persistent(disks, len(starts))
        return disks
    return [disk for disk in _own_disks(starts).values() if disk is not None]


def check_persistent(disks: list[Disk], machines: int) -> None:
    """Raise DiscoError unless each persistent disk is mounted by one machine, which is there."""
    # By what they are, not by name: a file may have several.
    known: set[tuple[int, int]] = set()
    for disk in disks:
        if disk.file is None:
            continue
        if disk.vm >= machines:
            raise DiscoError(
                "no such machine to mount a persistent disk", file=disk.file,
                expected=f"keep@N: with N from 0 to {machines - 1}", found=f"keep@{disk.vm}:",
            )  # fmt: skip
        status = disk.file.stat()
        if (status.st_dev, status.st_ino) in known:
            raise DiscoError(
                "a persistent disk has one machine that mounts it", file=disk.file,
                expected="one keep: of a file", found="two",
            )  # fmt: skip
        known.add((status.st_dev, status.st_ino))


def _own_disks(starts: list[Start]) -> dict[str, Disk | None]:
    """Return the disk of each guest that has one, by the guest's name."""
    own: dict[str, Disk | None] = {}
    for start in starts:
        if start.guest.name not in own:
            own[start.guest.name] = own_disk(start.guest)
    return own


def mounted(request: CaptureRequest, starts: list[Start], disks: list[Disk]) -> list[list[int]]:
    """Return which of the disks each machine has: all that were asked for, or its guest's own.

    A persistent disk has one machine that mounts it.
    """
    if request.spec.machine.disks:
        return [
            [number for number, disk in enumerate(disks) if disk.file is None or disk.vm == vm]
            for vm in range(len(starts))
        ]
    names = [
        start.guest.name
        for start in {start.guest.name: start for start in starts}.values()
        if start.guest.disk or start.guest.files
    ]
    return [
        [names.index(start.guest.name)] if start.guest.name in names else [] for start in starts
    ]


def persistent(disks: list[Disk], have: list[list[int]]) -> list[tuple[Disk, int, int]]:
    """Return the persistent disks, each with the machine that mounts it, and in which slot.

    have: which of the disks each machine has (see `mounted`).
    """
    return [
        (disks[number], vm, slot)
        for vm, numbers in enumerate(have)
        for slot, number in enumerate(numbers)
        if disks[number].file is not None
    ]


def described(request: CaptureRequest, start: Start, disks: list[Disk]) -> dict[str, Any]:
    """Return what a manifest says of a guest."""
    return {
        "name": start.guest.name,
        "sha256": _identity(start.image, request),
        "args": list(start.args),
        "phases": {int(n): name for n, name in start.guest.phases.items()},
        "disks": [
            {
                "name": disk.name,
                "bytes": disk.words.nbytes,
                "sha256": disk.sha256,
                "read_only": disk.read_only,
                "persistent": disk.file is not None,
            }
            for disk in disks
        ],
    }


def written_config(request: CaptureRequest, starts: list[Start], disks: list[Disk]) -> Any:
    """Return the configuration as it stands in a trace: of files the names, not where they lay.

    What was on the disks and in the images, the manifest says by hash.
    """
    spec = request.spec
    values = to_dict(spec)
    if spec.machine.disks:
        values["machine"]["disks"] = [disk.words_of for disk in disks]
    if spec.vm.guests:
        values["vm"]["guests"] = [
            VirtualMachine(machine.vcpus, start.guest.name, machine.args).words
            for machine, start in zip(virtual_machines(spec), starts, strict=True)
        ]
    return values


def build_machine(
    request: CaptureRequest, starts: list[Start], disks: list[Disk], rows: int
) -> Machine:
    """Build the machine in its entry state: images and files loaded, arguments placed.

    rows: of its buffers.
    """
    spec = request.spec
    contents = [(disk.words, disk.read_only) for disk in disks]
    have = mounted(request, starts, disks)
    machine = machine_layout.build(spec, rows, contents, have)
    for _, vm, slot in persistent(disks, have):
        machine.virtio[vm * SLOTS + slot, V_PERSISTENT] = 1
    size = spec.machine.ram_bytes
    memories = machine.ram.view(np.uint8)[: len(starts) * size].reshape(len(starts), size)
    if spec.monitor.kind == "none":
        [start] = starts
        machine.s[:, machine_layout.S_PC] = start.image.entry
        machine.s[:, machine_layout.S_NPC] = start.image.entry + 4
        for register, value in _fill(memories[0], request, start).items():
            machine.gpr[:, register] = value
        return machine
    for vm, (memory, start) in enumerate(zip(memories, starts, strict=True)):
        registers = _fill(memory, request, start)
        _start_machine(machine, vm, request, start, registers)
    share_images(machine, [(start.image.sha256, _pages(start.image)) for start in starts])
    return machine


def _pages(image: Image) -> set[int]:
    """Return the pages of memory that an image covers."""
    return {
        page
        for segment in image.segments
        for page in range(segment.paddr >> 12, -(-(segment.paddr + len(segment.data)) >> 12))
    }


def disk_of(machine: Machine, vm: int, slot: int) -> np.ndarray[Any, Any]:
    """Return the words that a persistent disk of a machine has now, as a view."""
    row = machine.virtio[vm * SLOTS + slot]
    at = int(row[V_DISK_AT])
    return machine.disk[at : at + int(row[V_SECTORS]) * 128]


def memory_of(machine: Machine, vm: int) -> np.ndarray[Any, Any]:
    """Return the bytes of a machine's memory as the machine sees them."""
    size = int(machine.p[machine_layout.X_RAM])
    if not machine.p[machine_layout.X_MONITOR]:
        return machine.ram.view(np.uint8)[:size]
    return machine.ram.reshape(-1, 1024)[shown_pages(machine, vm)].reshape(-1).view(np.uint8)


def _fill(memory: np.ndarray[Any, Any], request: CaptureRequest, start: Start) -> Mapping[int, int]:
    """Load a machine's memory; return the general registers that its CPUs start with."""
    for segment in start.image.segments:
        memory[segment.paddr : segment.paddr + len(segment.data)] = np.frombuffer(
            segment.data, np.uint8
        )
    for path, address in request.load:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DiscoError(f"cannot read: {error.strerror}", file=path) from error
        if address + len(data) > len(memory):
            raise DiscoError(
                "does not fit into memory",
                file=path,
                expected=f"at most {len(memory):#x}",
                found=f"{address:#x} + {len(data):#x}",
            )
        memory[address : address + len(data)] = np.frombuffer(data, np.uint8)
    argv = place_arguments(memory, [start.image.name, *start.args])
    return {A0: 1 + len(start.args), A1: argv, A3: len(memory)}


def _start_machine(
    machine: Machine,
    vm: int,
    request: CaptureRequest,
    start: Start,
    registers: Mapping[int, int],
) -> None:
    """Give the virtual CPUs of a machine their entry state.

    A kernel in the supervisor segment begins at its link address, with its first pages mapped by
    the monitor; one in KSEG0 needs the assist that maps that segment.
    """
    entry, boot_page = start.image.entry, None
    if request.spec.machine.kseg0 == "direct":
        entry = _supervisor_entry(start.image)
        boot_page = entry >> 13
    record = vm_record(machine, vm)
    first = int(record[VM_FIRST])
    for which in range(first, first + int(record[VM_VCPUS])):
        load_vcpu(machine, which, pc=entry, registers=registers, boot_page=boot_page)


def _supervisor_entry(image: Image) -> int:
    """Return the entry at its link address; DiscoError if that is not in the supervisor segment."""
    physical = image.entry & 0x1FFFFFFF
    candidates = [image.entry] + [
        s.vaddr + physical - s.paddr for s in image.segments if s.paddr <= physical < s.end
    ]
    for address in candidates:
        if 0xC0000000 <= address < 0xE0000000:
            return address
    raise DiscoError(
        "the guest's kernel is not linked in the supervisor segment",
        file=image.path,
        expected="an entry from 0xc0000000 to 0xdfffffff, as in the images named -sseg",
        found=f"{image.entry:#x}",
        hint="or run it with --set machine.kseg0=mapped, a stated hardware assist",
    )


def _identity(image: Image, request: CaptureRequest) -> str:
    """Return the hash of all that was loaded: the image, and files with their addresses."""
    if not request.load and request.entry is None:
        return image.sha256
    digest = hashlib.sha256(image.sha256.encode())
    for path, address in request.load:
        digest.update(address.to_bytes(8, "little") + path.read_bytes())
    digest.update(image.entry.to_bytes(8, "little"))
    return digest.hexdigest()


def symbols_of(starts: list[Start]) -> dict[str, list[Any]]:
    """Return the symbols of every machine's image, in the columns of the schema."""
    rows = [
        (vm, start.image.name, s) for vm, start in enumerate(starts) for s in start.image.symbols
    ]
    return {
        "vm": [vm for vm, _, _ in rows],
        "asid": [-1] * len(rows),
        "image": [name for _, name, _ in rows],
        "name": [s.name for _, _, s in rows],
        "address": [s.address for _, _, s in rows],
        "size": [s.size for _, _, s in rows],
        "type": [s.type for _, _, s in rows],
    }
