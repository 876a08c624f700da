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
