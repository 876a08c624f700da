"""Name the prices of monitor work: what one unit of recorded work costs, in microseconds."""

from __future__ import annotations

from typing import Annotated

import msgspec

# A second for one piece of work: far above anything real, far below what overflows a clock.
Price = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]

# Prices of a page that a policy moves, or looks at.
MOVE_PRICES = ("migrate_us", "replicate_us", "collapse_us", "refused_us", "shootdown_us_per_cpu")

# Causes of an entry to the monitor that have a price of their own, `<cause>_us`.
TRAP_CAUSES = (
    "privileged", "tlb_write", "tlb_fault", "kseg0", "forward", "interrupt", "monitor_call",
    "emulate_load", "emulate_store", "ipi", "schedule", "copy_on_write", "network",
    "remap", "swap", "io", "lend",
)  # fmt: skip


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold one cost table. Every price is in microseconds; `prices["migrate_us"]` works too.

    The defaults are zero, so that a table says everything that it charges for.
    """

    migrate_us: Annotated[Price, msgspec.Meta(description="moving one page to another node")] = 0.0
    replicate_us: Annotated[Price, msgspec.Meta(description="copying one page to a node")] = 0.0
    collapse_us: Annotated[
        Price, msgspec.Meta(description="dropping a page's replicas at a write")
    ] = 0.0
    refused_us: Annotated[
        Price, msgspec.Meta(description="a hot page looked at and left where it is")
    ] = 0.0
    shootdown_us_per_cpu: Annotated[
        Price, msgspec.Meta(description="each CPU interrupted to drop a TLB entry")
    ] = 0.0

    privileged_us: Annotated[
        Price, msgspec.Meta(description="emulating a privileged instruction")
    ] = 0.0
    tlb_write_us: Annotated[Price, msgspec.Meta(description="emulating a TLB write")] = 0.0
    tlb_fault_us: Annotated[
        Price, msgspec.Meta(description="a TLB miss that the monitor resolves")
    ] = 0.0
    kseg0_us: Annotated[
        Price, msgspec.Meta(description="a TLB miss in a segment the guest thinks unmapped")
    ] = 0.0
    forward_us: Annotated[Price, msgspec.Meta(description="an exception passed to the guest")] = 0.0
    interrupt_us: Annotated[
        Price, msgspec.Meta(description="an interrupt delivered to the guest")
    ] = 0.0
    monitor_call_us: Annotated[
        Price, msgspec.Meta(description="a call of the guest to the monitor")
    ] = 0.0
    emulate_load_us: Annotated[Price, msgspec.Meta(description="emulating a device load")] = 0.0
    emulate_store_us: Annotated[Price, msgspec.Meta(description="emulating a device store")] = 0.0
    ipi_us: Annotated[
        Price, msgspec.Meta(description="posting an interrupt to another virtual CPU")
    ] = 0.0
    schedule_us: Annotated[
        Price, msgspec.Meta(description="choosing another virtual CPU, or waiting")
    ] = 0.0
    copy_on_write_us: Annotated[
        Price, msgspec.Meta(description="giving a shared page to a machine that writes it")
    ] = 0.0
    network_us: Annotated[Price, msgspec.Meta(description="passing a packet between machines")] = (
        0.0
    )
    remap_us: Annotated[
        Price, msgspec.Meta(description="showing a machine a page of a packet in place of a copy")
    ] = 0.0
    swap_us: Annotated[
        Price, msgspec.Meta(description="bringing a page back from a disk, the CPU waiting")
    ] = 0.0
    io_us: Annotated[
        Price, msgspec.Meta(description="starting to write a page to the swap disk")
    ] = 0.0
    lend_us: Annotated[
        Price, msgspec.Meta(description="taking a frame from a page that can be read again")
    ] = 0.0
    tlb_entry_us: Annotated[
        Price, msgspec.Meta(description="each entry put into the hardware TLB")
    ] = 0.0
    zero_page_us: Annotated[Price, msgspec.Meta(description="each page zeroed")] = 0.0
    copy_page_us: Annotated[Price, msgspec.Meta(description="each 4 KiB copied")] = 0.0
    interrupted_cpu_us: Annotated[
        Price, msgspec.Meta(description="each other CPU that a trap interrupts")
    ] = 0.0

    def __getitem__(self, name: str) -> float:
        """Return a price by name; KeyError for an unknown one."""
        if name not in self.__struct_fields__:
            raise KeyError(name)
        return float(getattr(self, name))
