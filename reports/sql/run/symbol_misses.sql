-- include: run.misses
-- include: trace.tlb_misses
-- include: run.runs

CREATE VIEW symbol_misses AS
WITH cache AS (
    SELECT
        r.trace, r.run, c.vm, c.process, s.image, s.symbol, c.mode,
        count(*) FILTER (_enum_source(r.source) = 'local') AS local,
        count(*) FILTER (_enum_source(r.source) <> 'local') AS remote,
        sum(r.stall_cycles)::UBIGINT AS stall_cycles
    FROM _source_misses AS r
    LEFT JOIN _contexts AS c USING (context)
    LEFT JOIN _miss_symbols AS s USING (context, pc)
    WHERE _in_phase(c.phase)
    GROUP BY ALL
),
translation AS (
    SELECT r.trace, c.vm, c.process, s.image, s.symbol, c.mode, count(*) AS tlb
    FROM _tlb_exceptions AS r
    LEFT JOIN _contexts AS c USING (context)
    LEFT JOIN _tlb_symbols AS s USING (context, pc)
    WHERE _in_phase(c.phase)
    GROUP BY ALL
),
-- TLB misses belong to the trace: every run over it with recorded misses has the same ones.
merged AS (
    SELECT trace, run, vm, process, image, symbol, mode, local, remote, 0 AS tlb, stall_cycles
    FROM cache
    UNION ALL
    SELECT trace, run, vm, process, image, symbol, mode, 0, 0, tlb, 0
    FROM translation
    JOIN (FROM _source_runs WHERE has_misses) USING (trace)
)
SELECT
    trace,
    run,
    vm,
    process,
    image,
    symbol,
    mode,
    sum(local)::UBIGINT AS local,
    sum(remote)::UBIGINT AS remote,
    sum(tlb)::UBIGINT AS tlb,
    sum(stall_cycles)::UBIGINT AS stall_cycles
FROM merged
GROUP BY ALL;

COMMENT ON VIEW symbol_misses IS 'What one function of one process missed in one mode, for runs with recorded misses.';
COMMENT ON COLUMN symbol_misses.trace IS 'name of the trace''s folder';
COMMENT ON COLUMN symbol_misses.run IS 'name of the run''s folder';
COMMENT ON COLUMN symbol_misses.vm IS 'virtual machine; 0 on the bare machine';
COMMENT ON COLUMN symbol_misses.process IS 'process that ran, or its address space';
COMMENT ON COLUMN symbol_misses.image IS 'image that the symbol comes from; empty if unknown';
COMMENT ON COLUMN symbol_misses.symbol IS 'function, or the address in hex where no symbol is known';
COMMENT ON COLUMN symbol_misses.mode IS 'kernel, supervisor, user or refill';
COMMENT ON COLUMN symbol_misses.local IS 'second-level misses served by local memory';
COMMENT ON COLUMN symbol_misses.remote IS 'second-level misses served by another node, dirty ones included';
COMMENT ON COLUMN symbol_misses.tlb IS 'TLB misses';
COMMENT ON COLUMN symbol_misses.stall_cycles IS 'cycles of stall for the second-level misses';
