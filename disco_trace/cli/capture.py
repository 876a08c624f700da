"""Run a guest on the simulated machine and keep its trace."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from disco_trace.cli import common, origin
from disco_trace.errors import EXIT_DONE, EXIT_GUEST, EXIT_INTERRUPTED, DiscoError

if TYPE_CHECKING:
    from disco_trace.requests import CaptureResult, Dump

# Physical and virtual addresses of a 32-bit machine.
MOST_ADDRESS = 2**32 - 1
# Of what a guest printed before it failed, so many last lines are shown.
CONSOLE_TAIL = 8


def capture(
    guest: Annotated[
        str, typer.Argument(metavar="GUEST", help="A guest's name, or the path of an ELF file.")
    ],
    args: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARG", help="The guest's arguments, after --; none: its own."),
    ] = None,
    machine: Annotated[
        str | None,
        typer.Option(
            "--machine",
            metavar="NAME|FILE",
            help="A preset or TOML file; the guest's own recommendation by default.",
        ),
    ] = None,
    policy: Annotated[
        str | None, typer.Option("--policy", metavar="NAME", help="Page placement policy.")
    ] = None,
    costs: Annotated[
        str | None, typer.Option("--costs", metavar="NAME|FILE", help="Cost table.")
    ] = None,
    sets: common.Sets = None,
    output: common.Out = None,
    force: common.Force = False,
    console: Annotated[
        bool, typer.Option("--console", help="Show what the guest prints, as it prints.")
    ] = False,
    load: Annotated[
        list[str] | None,
        typer.Option(
            "--load", metavar="FILE@PHYS", help="Copy a file to physical memory first; repeatable."
        ),
    ] = None,
    entry: Annotated[
        str | None, typer.Option("--entry", metavar="VADDR", help="Start here, not where ELF says.")
    ] = None,
    stop_at: Annotated[
        str | None, typer.Option("--stop-at", metavar="VADDR", help="Stop when a CPU gets here.")
    ] = None,
    max_instructions: Annotated[
        str | None,
        typer.Option("--max-instructions", metavar="N", help="Stop after N, over all CPUs."),
    ] = None,
    max_bytes: Annotated[
        str | None,
        typer.Option("--max-bytes", metavar="N", help="Stop at a trace of N bytes, as 2GiB."),
    ] = None,
    dump: Annotated[
        list[str] | None,
        typer.Option(
            "--dump",
            metavar="[VM/]PHYS:LENGTH=FILE",
            help="Write memory to a file after; of machine VM (0); repeatable.",
        ),
    ] = None,
    no_events: Annotated[
        bool, typer.Option("--no-events", help="Keep the results only: nothing to replay.")
    ] = False,
    save_at: Annotated[
        str | None,
        typer.Option(
            "--save-at", metavar="PHASE", help="Save a checkpoint when this phase is first opened."
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume", metavar="CHECKPOINT", help="Go on from a checkpoint, with its machine."
        ),
    ] = None,
    monitor: Annotated[
        str | None,
        typer.Option("--monitor", metavar="none|disco", help="The monitor below the guest."),
    ] = None,
    vms: Annotated[
        str | None,
        typer.Option("--vms", metavar="N|FILE", help="Virtual machines; a TOML file: unlike ones."),
    ] = None,
    # Promised for later versions: not listed, but told apart from a misspelt option.
    run: Annotated[
        str | None, typer.Option("--run", metavar="CMD", help="Command to run.", hidden=True)
    ] = None,
    json: common.Json = False,
    quiet: common.Quiet = False,
) -> None:
    """Run a guest on the simulated machine and keep its trace.

    The trace goes to traces/GUEST-Ncpu. Ctrl-C closes it: readable, marked incomplete. A checkpoint
    goes to checkpoints/PHASE in the trace; what is captured from it, to traces/GUEST-Ncpu-PHASE,
    where --set may change latencies, prices and a policy's thresholds.

    Examples:

    \b
        disco-trace capture radix
        disco-trace capture radix --machine flash8 -- keys=65536
        disco-trace capture database --set time.feedback=none --set machine.nodes=4
        disco-trace capture radix --monitor disco --vms 2
        disco-trace capture ./mine.elf --max-instructions 50_000_000 --console
        disco-trace capture radix --save-at sort
        disco-trace capture radix --resume traces/radix-8cpu/checkpoints/sort
    """
    with common.verb("capture", json=json, quiet=quiet) as out:
        _refuse_later({"--run": run})
        if policy is not None:
            common.check_policy(policy)
        from disco_trace.requests import CaptureRequest

        words: dict[str, Any] = {
            "policy": policy,
            "costs": costs,
            "monitor": monitor,
            "sets": sets or (),
        }
        if resume is None:
            words["vms"] = _machines(vms)
            begin = origin.at_start(guest, machine, words, args or ())
        else:
            given = {
                "--machine": machine,
                "--vms": vms,
                "--load": load,
                "--entry": entry,
                "ARG": args,
            }
            begin = origin.at_checkpoint(guest, resume, words, given)
        spec = begin.spec
        common.check_policy(spec.placement.policy)
        if begin.image is not None and entry is None:
            _check_elf(begin.image)
        path = output or begin.path
        common.check_free(path, force=force, what="trace")
        shown = Console(to_stderr=json)
        # A bar would be drawn into what the guest prints.
        progress = out.progress("capture", unit="instructions", hidden=console)
        request = CaptureRequest(
            guest=guest,
            args=list(args or []),
            spec=spec,
            out=path,
            force=force,
            console=console,
            load=[_load(word) for word in load or []],
            entry=_address("--entry", entry),
            stop_at=_address("--stop-at", stop_at),
            max_instructions=_count("--max-instructions", max_instructions),
            max_bytes=_count("--max-bytes", max_bytes),
            dump=[_dump(word) for word in dump or []],
            no_events=no_events,
            save_at=origin.phase_number(save_at, begin.phases),
            resume=begin.checkpoint,
            progress=progress,
            on_console=shown.write if console else None,
        )
        compile_seconds = common.compile_kernels(out)
        from disco_trace.capture import capture as run_capture

        with progress:
            result = run_capture(request)
        if console and not shown.used:
            shown.write(result.console)
        report(out, result, compile_seconds, shown=console)
        if no_events:
            out.next("report", result.path)
        elif out.exit_code == EXIT_GUEST:
            out.next("info", result.path)
        else:
            # What a user asks first: what if pages lay elsewhere. A monitor's do by first touch.
            other = "first-touch" if spec.monitor.kind == "none" else "migrate-replicate"
            out.next("replay", result.path, "--policy", other)


def _machines(vms: str | None) -> int | Path | None:
    """Read --vms: how many virtual machines, or the file that says what each runs."""
    if vms is not None and ("/" in vms or vms.endswith(".toml")):
        return Path(vms)
    return _count("--vms", vms)


def _check_elf(image: Path) -> None:
    """Raise `DiscoError` for an image that is not ELF: a raw one needs a place to start at.

    Without this any file would be run, and text makes a guest that hangs.
    """
    with image.open("rb") as file:
        begin = file.read(4)
    if begin != b"\x7fELF":
        raise DiscoError(
            "not an ELF file",
            file=image,
            expected="an ELF file, or a raw image with --entry",
            found=f"a file that begins with {begin!r}" if begin else "an empty file",
            hint="--entry 0x80000000 runs it as raw machine code, loaded at physical address 0",
        )


class Console:
    """Show the guest's bytes on the terminal; on standard error where JSON has the output."""

    def __init__(self, *, to_stderr: bool) -> None:
        self.stream = sys.stderr if to_stderr else sys.stdout
        self.used = False

    def write(self, data: bytes) -> None:
        """Write bytes as text; what is not UTF-8 is shown as such."""
        self.used = True
        self.stream.write(data.decode("utf-8", "replace"))
        self.stream.flush()


def report(
    out: common.Output,
    result: CaptureResult,
    compile_seconds: float = 0.0,
    *,
    shown: bool = False,
) -> None:
    """Say how a capture went, to people and in JSON; set the exit code.

    shown: the guest's console is on the screen already.
    """
    from disco_trace.cli.summary import totals_lines
    from disco_trace.requests import ExitReason

    for warning in result.warnings:
        out.warn(warning)
    out.set(
        path=result.path,
        exit_reason=str(result.exit_reason),
        guest_exit_status=result.guest_exit_status,
        seconds=result.seconds,
        instructions_per_second=result.instructions_per_second,
        compile_seconds=compile_seconds + result.compile_seconds,
        totals=result.totals,
        per_cpu=result.per_cpu,
        registers=result.registers,
        cp0=result.cp0,
        console=result.console,
        checkpoint=result.checkpoint,
        disks=result.disks,
    )
    status = result.guest_exit_status
    ended = {
        ExitReason.POWER_OFF: f"the guest ended with status {status}",
        ExitReason.STOP_AT: "stopped at the address asked for",
        ExitReason.INSTRUCTION_LIMIT: "stopped at the limit of instructions",
        ExitReason.BYTE_LIMIT: "stopped at the limit of bytes",
        ExitReason.DEADLOCK: "the guest hangs: every CPU waits, and nothing will wake one",
        ExitReason.LOCKUP: "the guest hangs: a CPU faults for ever, finishing no instruction",
        ExitReason.INTERRUPTED: "interrupted: the trace is readable, and says it is incomplete",
    }[result.exit_reason]
    out.say(f"{result.path}: {ended}")
    for line in totals_lines(result.totals, result.per_cpu):
        out.say(f"  {line}")
    if result.checkpoint is not None:
        out.say(f"  checkpoint: {result.checkpoint}")
    for file, sectors in result.disks.items():
        out.say(f"  {file}: {sectors} sectors changed")
    speed = result.instructions_per_second / 1e6
    out.say(f"  {result.seconds:.1f} s, {speed:.1f} M instructions a second")
    if result.succeeded:
        out.exit_code = EXIT_DONE
    else:
        interrupted = result.exit_reason is ExitReason.INTERRUPTED
        out.exit_code = EXIT_INTERRUPTED if interrupted else EXIT_GUEST
    if out.exit_code == EXIT_GUEST:
        lines = result.console.decode("utf-8", "replace").strip().splitlines()
        tail = [] if shown else lines[-CONSOLE_TAIL:]
        for line in [ended, *(f"the guest printed: {text}" for text in tail)]:
            out.warn(line)


def _refuse_later(options: dict[str, object | None]) -> None:
    for option, value in options.items():
        if value is not None:
            raise DiscoError(f"{option} comes with a later version of disco-trace")


def _number(option: str, text: str, expected: str) -> int:
    from disco_trace.config.text import parse_number, parse_size

    for read in (parse_number, parse_size):
        try:
            value = read(text)
        except (ValueError, OverflowError):
            continue
        if isinstance(value, int) and value >= 0:
            return value
    thousands = {"K": 1, "M": 2, "G": 3}.get(text[-1:].upper())
    in_full = thousands and text[:-1].isdigit()
    hint = f"write {text[:-1]}{'_000' * (thousands or 0)}" if in_full else None
    raise DiscoError(f"bad value for {option}", expected=expected, found=repr(text), hint=hint)


def _address(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    expected = "an address from 0 to 0xffffffff"
    value = _number(option, text, expected)
    if value > MOST_ADDRESS:
        raise DiscoError(f"bad value for {option}", expected=expected, found=text)
    return value


def _count(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    value = _number(option, text, "a whole number above 0")
    if not 0 < value < 2**62:
        raise DiscoError(f"bad value for {option}", expected="a number above 0", found=text)
    return value


def _load(word: str) -> tuple[Path, int]:
    """Read FILE@PHYS; a file name may hold `@` itself."""
    name, at, place = word.rpartition("@")
    if not at or not name:
        raise DiscoError("malformed --load", expected="FILE@PHYS", found=repr(word))
    file = Path(name)
    common.check_exists(file, what="a file to load")
    address = _address("--load", place)
    assert address is not None
    return file, address


def _dump(word: str) -> Dump:
    """Read [VM/]PHYS:LENGTH=FILE."""
    from disco_trace.requests import Dump

    place, equals, name = word.partition("=")
    vm, _, place = place.rpartition("/")
    start, colon, length = place.partition(":")
    if not (equals and colon and name):
        raise DiscoError("malformed --dump", expected="[VM/]PHYS:LENGTH=FILE", found=repr(word))
    address = _address("--dump", start)
    assert address is not None
    size = _number("--dump", length, "a length in bytes")
    if size == 0 or address + size > MOST_ADDRESS + 1:
        raise DiscoError(
            "bad length for --dump", expected="at least 1 byte, below 4 GiB", found=repr(length)
        )
    return Dump(address, size, Path(name), _number("--dump", vm or "0", "a machine's number"))
