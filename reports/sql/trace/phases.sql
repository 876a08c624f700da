-- include: common.contexts

CREATE VIEW phases AS
WITH marks AS (
    -- An opening leaves `depth` phases open, its own close one fewer: the same level.
    SELECT
        r.*,
        c.vm,
        c.vcpu,
        r.event = 0 AS opens,
        r.depth + r.event AS level
    FROM _source_phases AS r
    LEFT JOIN _contexts AS c USING (context)
),
paired AS (
    SELECT
        *,
        lead(opens) OVER next AS next_opens,
        lead(cycle) OVER next AS next_cycle,
        lead(cpu) OVER next AS next_cpu,
        lead(retired) OVER next AS next_retired
    FROM marks
    WINDOW next AS (PARTITION BY trace, vm, vcpu, phase, level ORDER BY seq)
),
stretches AS (
    SELECT *, coalesce(next_opens = false, false) AS closed FROM paired WHERE opens
)
SELECT
    s.trace,
    coalesce(n.name, s.phase::VARCHAR) AS phase,
    s.cpu,
    s.vm,
    s.cycle AS start_cycle,
    CASE WHEN closed THEN next_cycle END AS end_cycle,
    -- A CPU counts what it retires: of a virtual CPU that moved there is no one count.
    CASE WHEN closed AND next_cpu = s.cpu THEN next_retired - retired END AS instructions
FROM stretches AS s
LEFT JOIN _source_phase_names AS n
    ON n.trace = s.trace AND n.vm = s.vm AND n.phase = s.phase
WHERE _in_phase(coalesce(n.name, s.phase::VARCHAR));

COMMENT ON VIEW phases IS 'One stretch that a guest marked on one CPU, from its opening to its close.';
COMMENT ON COLUMN phases.trace IS 'name of the trace''s folder';
COMMENT ON COLUMN phases.phase IS 'the guest''s name for the phase, or its number';
COMMENT ON COLUMN phases.cpu IS 'CPU that opened it';
COMMENT ON COLUMN phases.vm IS 'virtual machine; 0 on the bare machine';
COMMENT ON COLUMN phases.start_cycle IS 'clock of the CPU at the opening, captured run; where the trace begins, if it was open there';
COMMENT ON COLUMN phases.end_cycle IS 'clock of the CPU at the close; null if it never closed';
COMMENT ON COLUMN phases.instructions IS 'instructions that the CPU retired in between; null if it never closed';
