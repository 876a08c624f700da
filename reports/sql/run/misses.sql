-- include: common.symbols

CREATE VIEW _miss_places AS SELECT DISTINCT context, pc FROM _source_misses;
CREATE VIEW _miss_symbols_now AS FROM _symbols_of('_miss_places');
CREATE TABLE _miss_symbols AS FROM _miss_symbols_now LIMIT 0;
-- Grouped, so that DuckDB knows one name for each place, and drops the join where none is asked for.
CREATE VIEW _miss_symbols_by_place AS
SELECT context, pc, any_value(image) AS image, any_value(symbol) AS symbol
FROM _miss_symbols
GROUP BY context, pc;

CREATE VIEW misses AS
SELECT
    r.trace,
    r.run,
    r.seq,
    r.cycle,
    r.cpu,
    _of(c.vm, r.context) AS vm,
    _of(c.vcpu, r.context) AS vcpu,
    _of(c.process, r.context) AS process,
    _of(c.mode, r.context) AS mode,
    _of(c.phase, r.context) AS phase,
    r.node,
    r.home,
    _enum_source(r.source) AS source,
    _enum_class(r.class) AS class,
    _enum_ref_kind(r.kind) AS kind,
    r.vaddr,
    r.guest_page,
    r.pc,
    s.symbol,
    r.stall_cycles
FROM _source_misses AS r
CROSS JOIN _context_lists AS c
LEFT JOIN _miss_symbols_by_place AS s USING (context, pc)
WHERE _in_phase(_of(c.phase, r.context));

-- The misses of one run that crossed the interconnect: served by another node, or dirty there.
-- (A bare `run` is the macro's argument, `m.run` the column.)
CREATE MACRO remote_misses(run) AS TABLE
SELECT * FROM misses AS m WHERE m.run = run AND m.source <> 'local';

COMMENT ON VIEW misses IS 'One second-level miss of the captured run, or of a replay made with --record-misses.';
COMMENT ON COLUMN misses.trace IS 'name of the trace''s folder';
COMMENT ON COLUMN misses.run IS 'name of the run''s folder';
COMMENT ON COLUMN misses.seq IS 'global sequence number, in captured order';
COMMENT ON COLUMN misses.cycle IS 'clock of the CPU in this run';
COMMENT ON COLUMN misses.cpu IS 'CPU that acted';
COMMENT ON COLUMN misses.vm IS 'virtual machine; 0 on the bare machine';
COMMENT ON COLUMN misses.vcpu IS 'virtual CPU; the CPU on the bare machine';
COMMENT ON COLUMN misses.process IS 'the guest''s name for the address space at that time, or its number (asid n)';
COMMENT ON COLUMN misses.mode IS 'kernel, supervisor, user or refill (inside a TLB refill handler)';
COMMENT ON COLUMN misses.phase IS 'innermost open phase: the guest''s name for it, or its number; empty for none';
COMMENT ON COLUMN misses.node IS 'node of the CPU that missed';
COMMENT ON COLUMN misses.home IS 'node of the frame';
COMMENT ON COLUMN misses.source IS 'local or remote memory, or dirty in another CPU''s cache';
COMMENT ON COLUMN misses.class IS 'cold (never held), capacity (lost to room, also conflicts and page moves) or coherence (lost to an invalidation)';
COMMENT ON COLUMN misses.kind IS 'fetch, load or store';
COMMENT ON COLUMN misses.vaddr IS 'virtual address of the reference';
COMMENT ON COLUMN misses.guest_page IS 'guest-physical page number (4 KiB pages), or a shared page''s own';
COMMENT ON COLUMN misses.pc IS 'virtual address of the instruction';
COMMENT ON COLUMN misses.symbol IS 'function that holds the pc, or the pc in hex where no symbol is known';
COMMENT ON COLUMN misses.stall_cycles IS 'cycles for which the CPU stood still';
COMMENT ON MACRO TABLE remote_misses IS 'The rows of misses, for one run, that local memory did not serve.';
