"""Join guest, machine, memory system and trace: run a guest once and keep everything."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from disco_trace.boot import (
    build_machine,
    described,
    disk_of,
    disks_of,
    memory_of,
    mounted,
    persistent,
    starts_of,
    symbols_of,
    written_config,
)
from disco_trace.checkpoint.identity import check_guest
from disco_trace.checkpoint.resume import Resumed, resume
from disco_trace.checkpoint.save import Counters, save
from disco_trace.compile import load, simulator_id
from disco_trace.config import to_dict
from disco_trace.config.checks import unused
from disco_trace.config.machines import machines_of
from disco_trace.config.structure import check_captured
from disco_trace.errors import DiscoError
from disco_trace.guest.disk import Disk, write_back
from disco_trace.machine import kernel
from disco_trace.machine import layout as machine_layout
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
from disco_trace.replay.results import Results, room
from disco_trace.requests import CaptureRequest, CaptureResult, ExitReason
from disco_trace.trace.allocation import keep_freed_memory
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
    check_captured(request.spec)
    compile_seconds = load(kernel.compile_kernels)
    begin = time.perf_counter()
    keep_freed_memory()
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
        disks=session.written,
        warnings=session.warnings,
    )


def _cold(request: CaptureRequest) -> _Session:
    """Return the capture of a guest from its start."""
    starts = starts_of(request)
    disks = disks_of(request, starts)
    if request.save_at is not None and any(disk.file for disk in disks):
        raise DiscoError(
            "a checkpoint cannot hold a persistent disk: all runs from it would write to it",
            expected="no keep: in machine.disks, or no --save-at",
            found="both",
        )
    for disk in disks:
        if disk.file and disk.file.is_relative_to(request.out.resolve()):
            raise DiscoError(
                "a persistent disk lies in the trace that would be replaced",
                file=disk.file,
                hint="write elsewhere with -o",
            )
    machine = build_machine(request, starts, disks, REF_BUFFER_ROWS)
    _limit(machine, request)
    have = mounted(request, starts, disks)
    main = next(vm for vm, start in enumerate(starts) if start.word == request.guest)
    machine.p[machine_layout.X_SAVE_VM] = main
    memory = memory_layout.build(
        request.spec, record_misses=True, contexts=4 * len(machine.contexts)
    )
    return _Session(
        request,
        machine,
        memory,
        described(request, starts[main], disks),
        written_config(request, starts, disks),
        starts[main].image.sha256,
        symbols_of(starts),
        guests=[described(request, start, []) for start in starts]
        if request.spec.vm.guests
        else [],
        persistent=persistent(disks, have),
        mounted=have,
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
    names = [guest.name for guest in checkpoint.guests]
    main = names.index(checkpoint.guest.name) if checkpoint.guest.name in names else 0
    found.machine.p[machine_layout.X_SAVE_VM] = main
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
        guests=[msgspec.to_builtins(each, str_keys=False) for each in checkpoint.guests],
        mounted=checkpoint.mounted,
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
        guests: Sequence[dict[str, Any]] = (),
        persistent: Sequence[tuple[Disk, int, int]] = (),
        mounted: Sequence[Sequence[int]] = (),
    ) -> None:
        self.request = request
        self.warnings: list[str] = []
        if paths := unused(request.spec):
            self.warnings.append(f"no monitor, so nobody looks at {', '.join(paths)}")
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
        self.persistent = persistent
        self.mounted = mounted
        self.written: dict[str, int] = {}
        if resumed:
            self.before = dict(resumed.checkpoint.state.rows)
            self.base = resumed.checkpoint.state.base
            self.consoles.begin(resumed.checkpoint.lines)
        self.instructions = int(machine.g[machine_layout.G_INSTRUCTIONS])
        self.spare = machine_layout.buffers(REF_BUFFER_ROWS)
        self.manifest: dict[str, Any] = {
            "guest": guest,
            "guests": list(guests),
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
            provenance={**provenance(), "simulator": simulator_id()},
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
        self._write_back(reason)
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
            page = int(kernel.announce(self.machine, self.memory, 0))
            while page >= 0:
                self._segment(writer)
                page = int(kernel.announce(self.machine, self.memory, page))
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
        if self.request.spec.monitor.kind != "none":
            head |= {
                "guests": self.manifest["guests"],
                "mounted": [list(disks) for disks in self.mounted],
                "lines": self.consoles.begun(),
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

    def _write_back(self, reason: ExitReason) -> None:
        """Let persistent disks have what was written to them, if the guest switched itself off."""
        for disk, vm, slot in self.persistent:
            if disk.file and reason is ExitReason.POWER_OFF:
                words = disk_of(self.machine, vm, slot)
                self.written[str(disk.file)] = write_back(disk.file, words, disk.sha256)
            else:
                self.warnings.append(f"{disk.file} stays as it was: the guest did not power off")

    def _dump(self) -> None:
        for dump in self.request.dump:
            memory = memory_of(self.machine, dump.vm)
            try:
                dump.path.write_bytes(memory[dump.address : dump.address + dump.length].tobytes())
            except OSError as error:
                raise DiscoError(f"cannot write: {error.strerror}", file=dump.path) from error


def _limit(machine: Machine, request: CaptureRequest) -> None:
    """Tell the machine what to record, and where to stop or to be saved; check what to dump."""
    done = int(machine.g[machine_layout.G_INSTRUCTIONS])
    size = request.spec.machine.ram_bytes
    machines = machines_of(request.spec)
    for dump in request.dump:
        if dump.address + dump.length > size:
            raise DiscoError(
                "the stretch to dump lies outside memory",
                file=dump.path,
                expected=f"at most {size:#x}",
                found=f"{dump.address:#x} + {dump.length:#x}",
            )
        if dump.vm >= machines:
            raise DiscoError(
                "no such machine to dump memory of",
                file=dump.path,
                expected=f"a machine below {machines}",
                found=str(dump.vm),
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

    def begun(self) -> list[str]:
        """Return what each machine has printed of a line that it has not ended."""
        return [bytes(line).decode("latin-1") for line in self.lines]

    def begin(self, lines: Sequence[str]) -> None:
        """Go on with lines that machines had begun."""
        for mine, line in zip(self.lines, lines, strict=False):
            mine += line.encode("latin-1", errors="replace")

    def rest(self) -> bytes:
        """Return the lines that were never ended."""
        return b"".join(self._prefix(vm) + t + b"\n" for vm, t in enumerate(self.lines) if t)

    def _prefix(self, vm: int) -> bytes:
        return b"[vm %d] " % vm


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
