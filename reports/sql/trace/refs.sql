-- include: common.symbols

CREATE VIEW _ref_places AS SELECT DISTINCT context, pc FROM _source_refs;
CREATE VIEW _ref_symbols_now AS FROM _symbols_of('_ref_places');
CREATE TABLE _ref_symbols AS FROM _ref_symbols_now LIMIT 0;
-- Grouped, so that DuckDB knows one name for each place, and drops the join where none is asked for.
CREATE VIEW _ref_symbols_by_place AS
SELECT context, pc, any_value(image) AS image, any_value(symbol) AS symbol
FROM _ref_symbols
GROUP BY context, pc;

CREATE VIEW refs AS
SELECT
    r.trace,
    r.seq,
    r.cycle,
    r.cpu,
    _of(c.vm, r.context) AS vm,
    _of(c.vcpu, r.context) AS vcpu,
    _of(c.process, r.context) AS process,
    _of(c.mode, r.context) AS mode,
    _of(c.phase, r.context) AS phase,
    _enum_ref_kind(r.kind) AS kind,
    r.vaddr,
    r.guest_page,
    r.pc,
    s.symbol,
    r.work AS work_cycles
FROM _source_refs AS r
CROSS JOIN _context_lists AS c
LEFT JOIN _ref_symbols_by_place AS s USING (context, pc)
WHERE _in_phase(_of(c.phase, r.context));

COMMENT ON VIEW refs IS 'One reference that left the first-level caches, or the outcome of a store-conditional.';
COMMENT ON COLUMN refs.trace IS 'name of the trace''s folder';
COMMENT ON COLUMN refs.seq IS 'global sequence number, in captured order';
COMMENT ON COLUMN refs.cycle IS 'clock of the CPU, captured run';
COMMENT ON COLUMN refs.cpu IS 'CPU that acted';
COMMENT ON COLUMN refs.vm IS 'virtual machine; 0 on the bare machine';
COMMENT ON COLUMN refs.vcpu IS 'virtual CPU; the CPU on the bare machine';
COMMENT ON COLUMN refs.process IS 'the guest''s name for the address space at that time, or its number (asid n)';
COMMENT ON COLUMN refs.mode IS 'kernel, supervisor, user or refill (inside a TLB refill handler)';
COMMENT ON COLUMN refs.phase IS 'innermost open phase: the guest''s name for it, or its number; empty for none';
COMMENT ON COLUMN refs.kind IS 'fetch, load or store that missed, upgrade (first write to a clean line), uncached_*, cache_op, sc_done, sc_fail';
COMMENT ON COLUMN refs.vaddr IS 'virtual address of the reference';
COMMENT ON COLUMN refs.guest_page IS 'guest-physical page number (4 KiB pages)';
COMMENT ON COLUMN refs.pc IS 'virtual address of the instruction';
COMMENT ON COLUMN refs.symbol IS 'function that holds the pc, or the pc in hex where no symbol is known';
COMMENT ON COLUMN refs.work_cycles IS 'base cycles (no stalls) since this CPU''s previous row';
