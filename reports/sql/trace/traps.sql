-- include: common.symbols

CREATE VIEW _trap_places AS SELECT DISTINCT context, pc FROM _source_traps;
CREATE VIEW _trap_symbols_now AS FROM _symbols_of('_trap_places');
CREATE TABLE _trap_symbols AS FROM _trap_symbols_now LIMIT 0;

-- With the function that holds the pc.
CREATE VIEW _placed_traps AS
SELECT
    r.trace,
    r.seq,
    r.cycle,
    r.cpu,
    c.vm,
    c.vcpu,
    c.process,
    c.mode,
    c.phase,
    _enum_monitor_cause(r.cause) AS cause,
    r.pc,
    r.vaddr,
    r.tlb_entries,
    -- Two counts travel in one argument: zeroed pages below, interrupted CPUs above.
    (r.pages & 4294967295)::UINTEGER AS pages_zeroed,
    r.bytes_copied,
    (r.pages >> 32)::UINTEGER AS cpus_interrupted,
    s.symbol
FROM _source_traps AS r
LEFT JOIN _contexts AS c USING (context)
LEFT JOIN _trap_symbols AS s USING (context, pc)
WHERE _in_phase(c.phase);

CREATE VIEW traps AS SELECT * EXCLUDE (symbol) FROM _placed_traps;

COMMENT ON VIEW traps IS 'One entry to the monitor, with the work that it did.';
COMMENT ON COLUMN traps.trace IS 'name of the trace''s folder';
COMMENT ON COLUMN traps.seq IS 'global sequence number, in captured order';
COMMENT ON COLUMN traps.cycle IS 'clock of the CPU, captured run';
COMMENT ON COLUMN traps.cpu IS 'CPU that acted';
COMMENT ON COLUMN traps.vm IS 'virtual machine; 0 on the bare machine';
COMMENT ON COLUMN traps.vcpu IS 'virtual CPU; the CPU on the bare machine';
COMMENT ON COLUMN traps.process IS 'the guest''s name for the address space at that time, or its number (asid n)';
COMMENT ON COLUMN traps.mode IS 'kernel, supervisor, user or refill (inside a TLB refill handler)';
COMMENT ON COLUMN traps.phase IS 'innermost open phase: the guest''s name for it, or its number; empty for none';
COMMENT ON COLUMN traps.cause IS 'what the monitor was entered for (a row of the costs table)';
COMMENT ON COLUMN traps.pc IS 'virtual address of the trapping instruction';
COMMENT ON COLUMN traps.vaddr IS 'address concerned, or 0';
COMMENT ON COLUMN traps.tlb_entries IS 'TLB entries inserted';
COMMENT ON COLUMN traps.pages_zeroed IS 'pages zeroed';
COMMENT ON COLUMN traps.bytes_copied IS 'bytes copied by the monitor';
COMMENT ON COLUMN traps.cpus_interrupted IS 'other CPUs that had to be interrupted';
