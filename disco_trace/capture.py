"""Join guest, machine, memory system and trace: run a guest once and keep everything."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from disco_trace.checkpoint.identity import check_guest
from disco_trace.checkpoint.resume import Resumed, resume
from disco_trace.checkpoint.save import Counters, save
from disco_trace.compile import load
from disco_trace.config import Spec, to_dict
from disco_trace.errors import DiscoError
from disco_trace.guest.disk import Disk, open_disk, own_disk
from disco_trace.guest.elf import Image, load_image
from disco_trace.guest.resolve import Guest, find_guest
from disco_trace.machine import kernel
from disco_trace.machine import layout as machine_layout
from disco_trace.machine.arguments import place_arguments
from disco_trace.machine.final import registers
from disco_trace.machine.layout import (
    EXIT_CONTEXTS,
    EXIT_NONE,
    EXIT_SAVE,
    MOST_CONTEXTS,
    Machine,
)
from disco_trace.memory import layout as memory_layout
from disco_trace.memory.layout import C_CLOCK, CPU_WORDS, Memory
from disco_trace.monitor.layout import load_vcpu, machines_of
from disco_trace.replay.results import Results, room
from disco_trace.requests import CaptureRequest, CaptureResult, ExitReason
from disco_trace.trace.checkpoint import CHECKPOINTS, folder_name
from disco_trace.trace.run import Run
from disco_trace.trace.run_writer import RunWriter
from disco_trace.trace.state import FAMILIES, Mark
from disco_trace.trace.writer import REF_BUFFER_ROWS, TraceWriter

# Base cycles between looks at the clock, the console and Ctrl-C: about a third of a second.
BUDGET = 1 << 25

_REASONS = {
    machine_layout.EXIT_POWER: ExitReason.POWER_OFF,
    machine_layout.EXIT_STOP: ExitReason.STOP_AT,
    machine_layout.EXIT_INSTRUCTIONS: ExitReason.INSTRUCTION_LIMIT,
    machine_layout.EXIT_DEADLOCK: ExitReason.DEADLOCK,
    machine_layout.EXIT_LOCKUP: ExitReason.LOCKUP,
}


def capture(request: CaptureRequest) -> CaptureResult:
    """Run a guest on the simulated machine; write its trace and `runs/captured`.

    `seconds` of the answer is without loading the kernels, which is named apart (and takes a minute
    where they are not compiled yet, see `compile.warm`). Raises DiscoError for bad input, before
    anything is written.
    """
    saves = request.save_at is not None or request.resume is not None
    if saves and request.spec.monitor.kind != "none":
        raise DiscoError(
            "checkpoints of virtual machines come with a later version",
            expected="monitor.kind = none",
            found=request.spec.monitor.kind,
        )
    compile_seconds = load(kernel.compile_kernels)
    begin = time.perf_counter()
    session = _cold(request) if request.resume is None else _resumed(request, request.resume)
    reason, status, console = session.run()
    result = Run.open(request.out / "runs" / "captured")
    seconds = time.perf_counter() - begin
    general, cp0 = registers(session.machine, session.memory)
    return CaptureResult(
        path=request.out,
        exit_reason=reason,
        guest_exit_status=status,
        console=console,
        seconds=seconds,
        instructions_per_second=result.totals["instructions"] / seconds,
        compile_seconds=compile_seconds,
        totals=result.totals,
        per_cpu=result.per_cpu,
        registers=general,
        cp0=cp0,
        checkpoint=session.saved,
        warnings=session.warnings,
    )


def _cold(request: CaptureRequest) -> _Session:
    """Return the capture of a guest from its start."""
    guest = find_guest(request.guest)
    image = load_image(
        guest.image, request.spec.machine.ram_bytes, name=guest.name, entry=request.entry
    )
    arguments = request.args or list(guest.arguments)
    disks = _disks(request, guest)
    machine = _machine(request, image, arguments, disks)
    memory = memory_layout.build(
        request.spec, record_misses=True, contexts=4 * len(machine.contexts)
    )
    named = {
        "name": guest.name,
        "sha256": _identity(image, request),
        "args": arguments,
        "phases": {int(n): name for n, name in guest.phases.items()},
        "disks": [
            {
                "name": disk.name,
                "bytes": disk.words.nbytes,
                "sha256": disk.sha256,
                "read_only": disk.read_only,
            }
            for disk in disks
        ],
    }
    config = _config(request.spec, disks)
    return _Session(
        request,
        machine,
        memory,
        named,
        config,
        image.sha256,
        _symbols(image, machines_of(request.spec)),
    )


def _resumed(request: CaptureRequest, folder: Path) -> _Session:
    """Return the capture of a guest from a checkpoint on."""
    if request.args or request.load or request.entry is not None:
        raise DiscoError(
            "arguments, files and entry of a guest are those of its checkpoint",
            file=folder,
            expected="none with resume",
            found="some",
        )
    if request.force and folder.resolve().is_relative_to(request.out.resolve()):
        raise DiscoError(
            "the checkpoint lies in the trace that would be replaced",
            file=request.out,
            hint="write elsewhere with -o",
        )
    found = resume(folder, request.spec, REF_BUFFER_ROWS)
    checkpoint = found.checkpoint
    check_guest(request.guest, checkpoint)
    _limit(found.machine, request)
    named = msgspec.to_builtins(checkpoint.guest, str_keys=False)
    return _Session(
        request,
        found.machine,
        found.memory,
        named,
        to_dict(request.spec),
        checkpoint.image,
        found.symbols,
        found,
    )


class _Session:
    """Hold one capture while it runs."""

    def __init__(
        self,
        request: CaptureRequest,
        machine: Machine,
        memory: Memory,
        guest: dict[str, Any],
        config: dict[str, Any],
        image: str,
        symbols: dict[str, list[Any]],
        resumed: Resumed | None = None,
    ) -> None:
        self.request = request
        self.warnings: list[str] = []
        self.console = bytearray()
        self.consoles = Consoles(machines_of(request.spec))
        self.interrupted = False
        self.named = 0  # names of processes that the trace has
        spec = request.spec
        self.machine = machine
        self.memory = memory
        self.image = image
        self.start = resumed.start if resumed else None
        # Rows of the buffers that the trace before the checkpoint has, and all that were before.
        self.skip = _filled(machine)
        self.before: dict[str, int] = dict.fromkeys(FAMILIES, 0)
        self.base: Counters = []
        self.saved: Path | None = None
        if resumed:
            self.before = dict(resumed.checkpoint.state.rows)
            self.base = resumed.checkpoint.state.base
        self.instructions = int(machine.g[machine_layout.G_INSTRUCTIONS])
        self.spare = machine_layout.buffers(REF_BUFFER_ROWS)
        self.manifest: dict[str, Any] = {
            "guest": guest,
            "config": config,
            "cpus": spec.machine.cpus,
            "nodes": spec.machine.nodes,
            "ram_pages": [spec.machine.ram_bytes // memory_layout.PAGE_BYTES] * machines_of(spec),
            "l1_ways": max(spec.machine.l1i.ways, spec.machine.l1d.ways),
            "seeds": {"machine": spec.machine.seed},
            "events": not request.no_events,
        }
        self.symbols = symbols

    def run(self) -> tuple[ExitReason, int | None, bytes]:
        """Run to the end; return why it ended, the guest's status and its console output."""
        request = self.request
        from disco_trace.trace.provenance import provenance

        writer = TraceWriter(
            request.out,
            self.manifest,
            symbols=self.symbols,
            start=self.start,
            provenance=provenance(),
            force=request.force,
        )
        with writer, _interrupt(self):
            captured = RunWriter(
                writer.directory / "runs" / "captured", self.manifest["config"], engine="capture"
            )
            with captured:
                results = Results(captured, self.memory)
                reason = self._loop(writer, results)
                self._segment(writer)
                complete = reason is not ExitReason.INTERRUPTED
                results.finish(self.memory)
                trace_id = writer.content_id()
                captured.identify(trace_id)
                run = captured.close(
                    complete=complete,
                    fidelity={"*": "exact"},
                    extra={
                        "policy": request.spec.placement.policy,
                        "costs": request.spec.costs.table,
                    },
                )
            writer.close(complete=complete, exit_reason=str(reason), totals=run["totals"])
        rest = self.consoles.rest()
        if rest:
            self.console += rest
            if request.on_console:
                request.on_console(rest)
        self._dump()
        if request.save_at is not None and self.saved is None:
            self.warnings.append(f"phase {request.save_at} was not opened: no checkpoint was saved")
        ended = reason not in (ExitReason.STOP_AT, ExitReason.INTERRUPTED)
        if request.stop_at is not None and ended:
            self.warnings.append(f"the address to stop at, {request.stop_at:#x}, was not reached")
        status = None
        if reason is ExitReason.POWER_OFF:
            status = int(self.machine.g[machine_layout.G_STATUS]) & 0xFFFFFFFF
        return reason, status, bytes(self.console)

    def _loop(self, writer: TraceWriter, results: Results) -> ExitReason:
        """Run until the guest, a limit or the user ends it."""
        request = self.request
        if self.start is None:
            kernel.start(self.machine, self.memory)
        self._name_processes(writer)
        while True:
            code = int(kernel.run(self.machine, self.memory, BUDGET))
            self._read_console()
            if not room(self.memory):
                self.memory = results.drain(self.memory)
            if code == EXIT_CONTEXTS:
                self._grow_contexts()
            elif code == EXIT_SAVE:
                self._save(writer)
            elif code in _REASONS:
                return _REASONS[code]
            elif code != EXIT_NONE and self._crowded():
                self._segment(writer)
                if request.max_bytes is not None:
                    # All that was handed over counts, not what a thread has got to by now.
                    writer.flush()
                    if writer.bytes_written >= request.max_bytes:
                        return ExitReason.BYTE_LIMIT
            if self.interrupted:
                return ExitReason.INTERRUPTED
            if request.progress:
                done = int(self.machine.g[machine_layout.G_INSTRUCTIONS]) - self.instructions
                request.progress(done, request.max_instructions)

    def _crowded(self) -> bool:
        g = self.machine.g
        return any(
            g[at] + machine_layout.ROOM > len(buffer)
            for at, buffer in (
                (machine_layout.G_REFS, self.machine.refs),
                (machine_layout.G_PAGE_ROWS, self.machine.pages),
                (machine_layout.G_EVENTS, self.machine.events),
            )
        )

    def _segment(self, writer: TraceWriter) -> None:
        """Close the intervals of work and hand the rows over; go on in the other buffers."""
        kernel.close_interval(self.machine, self.memory)
        machine, g = self.machine, self.machine.g
        self._name_processes(writer)
        refs, pages, events = (
            rows[self.skip[name] : end]
            for rows, (name, end) in zip(
                (machine.refs, machine.pages, machine.events), _filled(machine).items(), strict=True
            )
        )
        for name, rows in zip(FAMILIES, (refs, pages, events), strict=True):
            self.before[name] += len(rows)
        self.skip = dict.fromkeys(FAMILIES, 0)
        writer.submit(
            refs,
            pages,
            events,
            {
                "instructions": int(g[machine_layout.G_INSTRUCTIONS]),
                "cycles": [int(c) for c in self.memory.cpu[C_CLOCK::CPU_WORDS]],
            },
        )
        held = (machine.refs, machine.pages, machine.events)
        refs, pages, events = self.spare
        self.machine = machine._replace(refs=refs, pages=pages, events=events)
        self.spare = held
        for at in (machine_layout.G_REFS, machine_layout.G_PAGE_ROWS, machine_layout.G_EVENTS):
            g[at] = 0

    def _save(self, writer: TraceWriter) -> None:
        """Save a checkpoint; the machine then goes on as if nothing had been."""
        machine, number = self.machine, int(self.machine.p[machine_layout.X_SAVE])
        machine.p[machine_layout.X_SAVE] = 0
        name = self.manifest["guest"]["phases"].get(number, str(number))
        mark = Mark(number=number, name=name)
        place = Path(CHECKPOINTS) / folder_name(mark)
        made = {
            name: self.before[name] + end - self.skip[name]
            for name, end in _filled(machine).items()
        }
        head = {
            "guest": self.manifest["guest"],
            "image": self.image,
            "config": self.manifest["config"],
            "seeds": self.manifest["seeds"],
            "phase": {"number": mark.number, "name": mark.name},
        }
        save(
            writer.directory / place, machine, self.memory, head, self.symbols,
            rows=made, base=self.base,
        )  # fmt: skip
        self.saved = self.request.out / place
        machine.g[machine_layout.G_SAVE] = 0

    def _name_processes(self, writer: TraceWriter) -> None:
        """Hand over the names that the guest has given to its processes, if there are new ones."""
        known = int(self.machine.g[machine_layout.G_NAMES])
        full = known >= machine_layout.MAX_NAMES
        if known == self.named:
            return
        self.named = known
        names = [bytes(row).rstrip(b"\0") for row in self.machine.names[:known]]
        texts = [name.decode(errors="replace") for name in names]
        if full:
            self.warnings.append(
                f"more than {known - 1} names of processes: further ones may share one"
            )
            texts.append("further processes")
        writer.name_processes(texts)

    def _grow_contexts(self) -> None:
        """Double the table of contexts, up to `MOST_CONTEXTS`; further ones share the first."""
        old = self.machine.contexts
        size = min(2 * len(old), MOST_CONTEXTS)
        if size == len(old):
            self.warnings.append(
                f"more than {MOST_CONTEXTS} contexts (address space and phase): the rest share one"
            )
            self.machine.p[machine_layout.X_CONTEXTS_FULL] = 1
            return
        grown = np.zeros((size, old.shape[1]), old.dtype)
        grown[: len(old)] = old
        self.machine = self.machine._replace(contexts=grown)
        self.memory = memory_layout.with_contexts(self.memory, 4 * size)

    def _read_console(self) -> None:
        g = self.machine.g
        count = int(g[machine_layout.G_CONSOLE])
        if count:
            text = self.consoles.read(self.machine.console[:count])
            g[machine_layout.G_CONSOLE] = 0
            self.console += text
            if self.request.on_console:
                self.request.on_console(text)

    def _dump(self) -> None:
        for address, length, path in self.request.dump:
            data = self.machine.ram.view(np.uint8)[address : address + length].tobytes()
            try:
                path.write_bytes(data)
            except OSError as error:
                raise DiscoError(f"cannot write: {error.strerror}", file=path) from error


def _disks(request: CaptureRequest, guest: Guest) -> list[Disk]:
    """Return the machine's disks: those of its specification, or the guest's own."""
    if request.spec.machine.disks:
        return [open_disk(text) for text in request.spec.machine.disks]
    own = own_disk(guest)
    if own is not None and request.spec.monitor.kind != "none":
        raise DiscoError(
            "disks of virtual machines come with a later version",
            expected="a guest without a disk",
            found=f"{guest.name} with {own.name}",
        )
    return [] if own is None else [own]


def _config(spec: Spec, disks: list[Disk]) -> dict[str, Any]:
    """Return the configuration as it stands in a trace: of files the names, not where they lay.

    What was on the disks, the manifest says by hash.
    """
    values = to_dict(spec)
    if spec.machine.disks:
        values["machine"]["disks"] = [f"{'ro:' * disk.read_only}{disk.name}" for disk in disks]
    return values


def _machine(
    request: CaptureRequest, image: Image, arguments: list[str], disks: list[Disk]
) -> Machine:
    """Build the machine in its entry state: image and files loaded, arguments placed."""
    spec = request.spec
    contents = [(disk.words, disk.read_only) for disk in disks]
    machine = machine_layout.build(spec, REF_BUFFER_ROWS, contents)
    size = spec.machine.ram_bytes
    memory = machine.ram.view(np.uint8)[:size]
    for segment in image.segments:
        memory[segment.paddr : segment.paddr + len(segment.data)] = np.frombuffer(
            segment.data, np.uint8
        )
    for path, address in request.load:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DiscoError(f"cannot read: {error.strerror}", file=path) from error
        if address + len(data) > size:
            raise DiscoError(
                "does not fit into memory",
                file=path,
                expected=f"at most {size:#x}",
                found=f"{address:#x} + {len(data):#x}",
            )
        memory[address : address + len(data)] = np.frombuffer(data, np.uint8)
    argv = place_arguments(memory, [image.name, *arguments])
    given = {4: 1 + len(arguments), 5: argv, 7: size}
    if spec.monitor.kind == "none":
        machine.s[:, machine_layout.S_PC] = image.entry
        machine.s[:, machine_layout.S_NPC] = image.entry + 4
        for register, value in given.items():
            machine.gpr[:, register] = value
    else:
        _virtual_machines(machine, spec, image, given)
    _limit(machine, request)
    return machine


def _limit(machine: Machine, request: CaptureRequest) -> None:
    """Tell the machine what to record, and where to stop or to be saved; check what to dump."""
    done = int(machine.g[machine_layout.G_INSTRUCTIONS])
    size = request.spec.machine.ram_bytes
    for address, length, path in request.dump:
        if address + length > size:
            raise DiscoError(
                "the stretch to dump lies outside memory",
                file=path,
                expected=f"at most {size:#x}",
                found=f"{address:#x} + {length:#x}",
            )
    if request.no_events:
        machine.p[machine_layout.X_EVENTS] = 0
    if request.stop_at is not None:
        machine.p[machine_layout.X_STOP] = request.stop_at
    if request.max_instructions is not None:
        machine.p[machine_layout.X_MAX_INSTRUCTIONS] = done + request.max_instructions
    if request.save_at is not None:
        machine.p[machine_layout.X_SAVE] = request.save_at


def _filled(machine: Machine) -> dict[str, int]:
    """Return how many rows stand in the buffer of each family."""
    at = (machine_layout.G_REFS, machine_layout.G_PAGE_ROWS, machine_layout.G_EVENTS)
    return {name: int(machine.g[index]) for name, index in zip(FAMILIES, at, strict=True)}


def _virtual_machines(
    machine: Machine, spec: Spec, image: Image, registers: dict[int, int]
) -> None:
    """Give every virtual machine the memory that was built for the first, and its entry state.

    A kernel in the supervisor segment begins at its link address, with its first pages mapped by
    the monitor; one in KSEG0 needs the assist that maps that segment.
    """
    entry, boot_page = image.entry, None
    if spec.machine.kseg0 == "direct":
        entry = _supervisor_entry(image)
        boot_page = entry >> 13
    # Only what is not zero is copied: pages that nobody touches cost no memory of the host.
    blocks = machine.ram.reshape(spec.vm.count, -1, memory_layout.PAGE_BYTES // 4)
    used = blocks[0].any(axis=1)
    for vm in range(1, spec.vm.count):
        blocks[vm, used] = blocks[0, used]
    for which in range(int(machine.p[machine_layout.X_VCPUS])):
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


class Consoles:
    """Join what several machines print: whole lines, each after its machine's number."""

    def __init__(self, machines: int) -> None:
        self.lines = [bytearray() for _ in range(machines)]

    def read(self, words: np.ndarray[Any, Any]) -> bytes:
        """Take words `machine << 8 | byte`; return the text to show now."""
        if len(self.lines) == 1:
            return words.astype(np.uint8).tobytes()
        out = bytearray()
        for word in words.tolist():
            vm, byte = word >> 8, word & 255
            self.lines[vm].append(byte)
            if byte == 10:
                out += self._prefix(vm) + self.lines[vm]
                self.lines[vm].clear()
        return bytes(out)

    def rest(self) -> bytes:
        """Return the lines that were never ended."""
        return b"".join(self._prefix(vm) + t + b"\n" for vm, t in enumerate(self.lines) if t)

    def _prefix(self, vm: int) -> bytes:
        return b"[vm %d] " % vm


def _identity(image: Image, request: CaptureRequest) -> str:
    """Return the hash of all that was loaded: the image, and files with their addresses."""
    if not request.load and request.entry is None:
        return image.sha256
    digest = hashlib.sha256(image.sha256.encode())
    for path, address in request.load:
        digest.update(address.to_bytes(8, "little") + path.read_bytes())
    digest.update(image.entry.to_bytes(8, "little"))
    return digest.hexdigest()


def _symbols(image: Image, machines: int) -> dict[str, list[Any]]:
    """Return the symbol table of an image that every machine runs, in the columns of the schema."""
    rows = [(vm, each) for vm in range(machines) for each in image.symbols]
    return {
        "vm": [vm for vm, _ in rows],
        "asid": [-1] * len(rows),
        "image": [image.name] * len(rows),
        "name": [each.name for _, each in rows],
        "address": [each.address for _, each in rows],
        "size": [each.size for _, each in rows],
        "type": [each.type for _, each in rows],
    }


@contextlib.contextmanager
def _interrupt(session: _Session) -> Iterator[None]:
    """Turn the first Ctrl-C into a request to stop, so that the trace is closed in order."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        session.interrupted = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
