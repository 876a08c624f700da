"""Join guest, machine, memory system and trace: run a guest once and keep everything."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from disco_trace.compile import load
from disco_trace.config import Spec, to_dict
from disco_trace.errors import DiscoError
from disco_trace.guest.disk import Disk, open_disk, own_disk
from disco_trace.guest.elf import Image, load_image
from disco_trace.guest.resolve import Guest, find_guest
from disco_trace.machine import kernel
from disco_trace.machine import layout as machine_layout
from disco_trace.machine.layout import EXIT_CONTEXTS, EXIT_NONE, Machine
from disco_trace.memory import layout as memory_layout
from disco_trace.memory.layout import C_CLOCK, CPU_WORDS, Memory
from disco_trace.monitor.layout import load_vcpu, machines_of
from disco_trace.replay.results import Results, room
from disco_trace.requests import CaptureRequest, CaptureResult, ExitReason
from disco_trace.trace.run import Run
from disco_trace.trace.run_writer import RunWriter
from disco_trace.trace.writer import REF_BUFFER_ROWS, TraceWriter

# Base cycles between looks at the clock, the console and Ctrl-C: about a third of a second.
BUDGET = 1 << 25
# Contexts (address space x phase x CPU) that a trace may tell apart; what is beyond shares one.
MAX_CONTEXTS = 4096
ARGUMENT_BYTES = 4096
KSEG0 = 0x80000000

_REASONS = {
    machine_layout.EXIT_POWER: ExitReason.POWER_OFF,
    machine_layout.EXIT_STOP: ExitReason.STOP_AT,
    machine_layout.EXIT_INSTRUCTIONS: ExitReason.INSTRUCTION_LIMIT,
    machine_layout.EXIT_DEADLOCK: ExitReason.DEADLOCK,
    machine_layout.EXIT_LOCKUP: ExitReason.LOCKUP,
}

CP0_NAMES = {
    "index": 0, "entrylo0": 16, "entrylo1": 24, "context": 32, "userlocal": 34, "pagemask": 40,
    "wired": 48, "hwrena": 56, "badvaddr": 64, "count": 72, "entryhi": 80, "compare": 88,
    "status": 96, "intctl": 97, "srsctl": 98, "cause": 104, "epc": 112, "prid": 120, "ebase": 121,
    "config": 128, "config1": 129, "config2": 130, "config3": 131, "config7": 135,
    "errctl": 208, "errorepc": 240,
}  # fmt: skip


def capture(request: CaptureRequest) -> CaptureResult:
    """Run a guest on the simulated machine; write its trace and `runs/captured`.

    `seconds` of the answer is without loading the kernels, which is named apart (and takes a minute
    where they are not compiled yet, see `compile.warm`). Raises DiscoError for bad input, before
    anything is written.
    """
    compile_seconds = load(kernel.compile_kernels)
    begin = time.perf_counter()
    guest = find_guest(request.guest)
    image = load_image(
        guest.image, request.spec.machine.ram_bytes, name=guest.name, entry=request.entry
    )
    arguments = request.args or list(guest.arguments)
    session = _Session(request, guest, image, arguments)
    reason, status, console = session.run()
    result = Run.open(request.out / "runs" / "captured")
    seconds = time.perf_counter() - begin
    registers, cp0 = _registers(session.machine, session.memory)
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
        registers=registers,
        cp0=cp0,
        warnings=session.warnings,
    )


class _Session:
    """Hold one capture while it runs."""

    def __init__(
        self, request: CaptureRequest, guest: Guest, image: Image, arguments: list[str]
    ) -> None:
        self.request = request
        self.warnings: list[str] = []
        self.console = bytearray()
        self.consoles = Consoles(machines_of(request.spec))
        self.interrupted = False
        self.named = 0  # names of processes that the trace has
        spec = request.spec
        self.disks = _disks(request, guest)
        self.machine = _machine(request, image, arguments, self.disks)
        self.memory = memory_layout.build(
            spec, record_misses=True, contexts=4 * len(self.machine.contexts)
        )
        self.spare = machine_layout.buffers(REF_BUFFER_ROWS)
        self.manifest: dict[str, Any] = {
            "guest": {
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
                    for disk in self.disks
                ],
            },
            "config": _config(spec, self.disks),
            "cpus": spec.machine.cpus,
            "nodes": spec.machine.nodes,
            "ram_pages": [spec.machine.ram_bytes // memory_layout.PAGE_BYTES] * machines_of(spec),
            "l1_ways": max(spec.machine.l1i.ways, spec.machine.l1d.ways),
            "seeds": {"machine": spec.machine.seed},
            "events": not request.no_events,
        }
        self.symbols = _symbols(image)

    def run(self) -> tuple[ExitReason, int | None, bytes]:
        """Run to the end; return why it ended, the guest's status and its console output."""
        request = self.request
        from disco_trace.trace.provenance import provenance

        writer = TraceWriter(
            request.out,
            self.manifest,
            symbols=self.symbols,
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
        status = None
        if reason is ExitReason.POWER_OFF:
            status = int(self.machine.g[machine_layout.G_STATUS]) & 0xFFFFFFFF
        return reason, status, bytes(self.console)

    def _loop(self, writer: TraceWriter, results: Results) -> ExitReason:
        """Run until the guest, a limit or the user ends it."""
        request = self.request
        kernel.start(self.machine, self.memory)
        while True:
            code = int(kernel.run(self.machine, self.memory, BUDGET))
            self._read_console()
            if not room(self.memory):
                self.memory = results.drain(self.memory)
            if code == EXIT_CONTEXTS:
                self._grow_contexts()
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
                done = int(self.machine.g[machine_layout.G_INSTRUCTIONS])
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
        counts = [
            int(g[at])
            for at in (machine_layout.G_REFS, machine_layout.G_PAGE_ROWS, machine_layout.G_EVENTS)
        ]
        writer.submit(
            machine.refs[: counts[0]],
            machine.pages[: counts[1]],
            machine.events[: counts[2]],
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
        """Double the table of contexts, up to `MAX_CONTEXTS`; then further ones share the first."""
        old = self.machine.contexts
        size = min(2 * len(old), MAX_CONTEXTS)
        if size == len(old):
            self.warnings.append(
                f"more than {MAX_CONTEXTS} contexts (address space and phase): the rest share one"
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
    for address, length, path in request.dump:
        if address + length > size:
            raise DiscoError(
                "the stretch to dump lies outside memory",
                file=path,
                expected=f"at most {size:#x}",
                found=f"{address:#x} + {length:#x}",
            )
    argv = _place_arguments(memory, [image.name, *arguments])
    registers = {4: 1 + len(arguments), 5: argv, 7: size}
    if spec.monitor.kind == "none":
        machine.s[:, machine_layout.S_PC] = image.entry
        machine.s[:, machine_layout.S_NPC] = image.entry + 4
        for register, value in registers.items():
            machine.gpr[:, register] = value
    else:
        _virtual_machines(machine, spec, image, registers)
    if request.no_events:
        machine.p[machine_layout.X_EVENTS] = 0
    if request.stop_at is not None:
        machine.p[machine_layout.X_STOP] = request.stop_at
    if request.max_instructions is not None:
        machine.p[machine_layout.X_MAX_INSTRUCTIONS] = request.max_instructions
    return machine


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


def _place_arguments(memory: np.ndarray[Any, Any], words: list[str]) -> int:
    """Write argv and its strings into the last page of RAM; return argv's KSEG0 address."""
    strings = [word.encode() + b"\0" for word in words]
    table = 4 * (len(words) + 1)
    if table + sum(map(len, strings)) > ARGUMENT_BYTES:
        raise DiscoError(
            "the guest's arguments are too long",
            expected=f"at most {ARGUMENT_BYTES} bytes in all",
            found=str(table + sum(map(len, strings))),
        )
    base = len(memory) - ARGUMENT_BYTES
    at = base + table
    pointers = []
    for text in strings:
        memory[at : at + len(text)] = np.frombuffer(text, np.uint8)
        pointers.append(KSEG0 + at)
        at += len(text)
    memory[base : base + table] = np.array([*pointers, 0], "<u4").view(np.uint8)
    return KSEG0 + base


def _identity(image: Image, request: CaptureRequest) -> str:
    """Return the hash of all that was loaded: the image, and files with their addresses."""
    if not request.load and request.entry is None:
        return image.sha256
    digest = hashlib.sha256(image.sha256.encode())
    for path, address in request.load:
        digest.update(address.to_bytes(8, "little") + path.read_bytes())
    digest.update(image.entry.to_bytes(8, "little"))
    return digest.hexdigest()


def _symbols(image: Image) -> dict[str, list[Any]]:
    """Return the symbol table of an image, in the columns of the schema."""
    symbols = image.symbols
    return {
        "vm": [0] * len(symbols),
        "asid": [-1] * len(symbols),
        "image": [image.name] * len(symbols),
        "name": [s.name for s in symbols],
        "address": [s.address for s in symbols],
        "size": [s.size for s in symbols],
        "type": [s.type for s in symbols],
    }


def _registers(machine: Machine, memory: Memory) -> tuple[list[dict[str, int]], Any]:
    """Return every CPU's general and CP0 registers by name."""
    general, system = [], []
    for cpu in range(len(machine.gpr)):
        row = machine.gpr[cpu]
        words = {f"r{n}": int(row[n]) for n in range(32)}
        words["hi"], words["lo"] = (
            int(row[machine_layout.HI]),
            int(row[machine_layout.LO]),
        )
        words["pc"] = int(machine.s[cpu, machine_layout.S_PC]) & 0xFFFFFFFF
        general.append(words)
        cp0 = {name: int(machine.cp0[cpu, at]) for name, at in CP0_NAMES.items()}
        cp0["count"] = int(kernel.count_register(machine, memory, cpu))
        system.append(cp0)
    return general, system


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
