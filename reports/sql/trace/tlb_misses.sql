-- include: common.symbols

-- The refill vector is taken for nothing else; a miss inside a handler (EXL set) goes to the
-- general vector and cannot be told from an invalid page by its code alone, so it is not counted.
CREATE VIEW _tlb_exceptions AS
FROM _source_exceptions WHERE code IN (2, 3) AND refill = 1;

CREATE VIEW _tlb_places AS SELECT DISTINCT context, pc FROM _tlb_exceptions;
CREATE VIEW _tlb_symbols_now AS FROM _symbols_of('_tlb_places');
CREATE TABLE _tlb_symbols AS FROM _tlb_symbols_now LIMIT 0;

CREATE VIEW tlb_misses AS
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
    CASE
        WHEN r.code = 3 THEN 'store'
        -- A fetch faults on its own address, which for a delay slot is the branch's + 4.
        WHEN r.vaddr = r.pc + 4 * r.delay_slot THEN 'fetch'
        ELSE 'load'
    END AS kind,
    r.vaddr,
    c.asid,
    r.pc,
    s.symbol
FROM _tlb_exceptions AS r
LEFT JOIN _contexts AS c USING (context)
LEFT JOIN _tlb_symbols AS s USING (context, pc)
WHERE _in_phase(c.phase);

COMMENT ON VIEW tlb_misses IS 'One TLB miss that went to the guest''s refill handler.';
COMMENT ON COLUMN tlb_misses.trace IS 'name of the trace''s folder';
COMMENT ON COLUMN tlb_misses.seq IS 'global sequence number, in captured order';
COMMENT ON COLUMN tlb_misses.cycle IS 'clock of the CPU, captured run';
COMMENT ON COLUMN tlb_misses.cpu IS 'CPU that acted';
COMMENT ON COLUMN tlb_misses.vm IS 'virtual machine; 0 on the bare machine';
COMMENT ON COLUMN tlb_misses.vcpu IS 'virtual CPU; the CPU on the bare machine';
COMMENT ON COLUMN tlb_misses.process IS 'the guest''s name for the address space at that time, or its number (asid n)';
COMMENT ON COLUMN tlb_misses.mode IS 'kernel, supervisor, user or refill (inside a TLB refill handler)';
COMMENT ON COLUMN tlb_misses.phase IS 'innermost open phase: the guest''s name for it, or its number; empty for none';
COMMENT ON COLUMN tlb_misses.kind IS 'fetch, load or store';
COMMENT ON COLUMN tlb_misses.vaddr IS 'virtual address that missed';
COMMENT ON COLUMN tlb_misses.asid IS 'address-space identifier in force';
COMMENT ON COLUMN tlb_misses.pc IS 'virtual address of the instruction';
COMMENT ON COLUMN tlb_misses.symbol IS 'function that holds the pc, or the pc in hex where no symbol is known';
