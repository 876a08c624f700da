-- What the `context` column of a row stands for, spelt out: one row for each context and mode.
-- A table, since every view joins it; the key is dense over all traces that are open, so that
-- DuckDB can look it up in an array.

CREATE TABLE _contexts AS
WITH named AS (
    -- An address space can get another name (exec, or an ASID used again); it gets other contexts
    -- with it. So a context has the last name before it was declared; where there was none yet,
    -- the first that came. (What a resumed trace starts with has its name in `given`.)
    SELECT
        trace,
        context_base,
        c.id,
        coalesce(
            arg_max(name, p.seq) FILTER (p.seq < c.seq),
            arg_min(name, p.seq)
        ) AS name
    FROM _source_contexts AS c
    JOIN _source_processes AS p USING (trace, vm, asid)
    GROUP BY trace, context_base, c.id
),
modes AS (
    SELECT code, _enum_mode(code) AS mode FROM range(4) AS codes (code)
)
SELECT
    (4 * (context_base + id) + code)::UINTEGER AS context,
    trace,
    vm,
    vcpu,
    asid,
    coalesce(given, named.name, 'asid ' || asid) AS process,
    mode,
    CASE
        WHEN phase = 0 THEN ''
        ELSE coalesce(_source_phase_names.name, phase::VARCHAR)
    END AS phase
FROM _source_contexts
CROSS JOIN modes
LEFT JOIN named USING (trace, context_base, id)
LEFT JOIN _source_phase_names USING (trace, vm, phase)
ORDER BY context;

-- The same, as one row of lists, for the views with many millions of rows: a look-up by position
-- costs half as much as a join (0.5 against 1.0 s for 50 M rows), and nothing where it is unused.
CREATE TABLE _context_lists AS
SELECT
    list(vm ORDER BY context) AS vm,
    list(vcpu ORDER BY context) AS vcpu,
    list(process ORDER BY context) AS process,
    list(mode ORDER BY context) AS mode,
    list(phase ORDER BY context) AS phase
FROM _contexts;

CREATE MACRO _of(list, context) AS list_extract(list, context::BIGINT + 1);
