"""Disco: virtual machines on the simulated multiprocessor, after Bugnion et al. (SOSP 1997).

Compiled functions over flat arrays that `machine.kernel` calls where a trap reaches the hardware's
kernel mode while a virtual machine runs. What a guest sees of its processor stands where the bare
machine keeps it (`Machine.cp0`, `Machine.tlb`): so one implementation defines the architecture,
and virtual exceptions are what the bare machine's are. What only the monitor sees (hardware TLBs,
software TLBs, virtual CPUs that do not run) stands in `Machine.mon`. See docs/monitor.md.
"""
