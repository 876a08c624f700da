-- What the `context` column of a row stands for, spelt out: one row for each context and mode.
-- A table, since every view joins it; the key is dense over all traces that are open, so that
-- DuckDB can look it up in an array.

CREATE TABLE _contexts AS
WITH last_names AS (
    -- An address space can be renamed (exec); its last name is the one that is shown.
    SELECT trace, vm, asid, arg_max(name, seq) AS name
    FROM _source_processes
    GROUP BY trace, vm, asid
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
    coalesce(last_names.name, 'asid ' || asid) AS process,
    mode,
    CASE
        WHEN phase = 0 THEN ''
        ELSE coalesce(_source_phase_names.name, phase::VARCHAR)
    END AS phase
FROM _source_contexts
CROSS JOIN modes
LEFT JOIN last_names USING (trace, vm, asid)
LEFT JOIN _source_phase_names USING (trace, phase)
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
