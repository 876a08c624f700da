-- include: run.accounts

-- Each cycle of a run under one component: work by mode, stalls by where the data lay, the
-- monitor by cause, idle. They add up to the clocks exactly.
CREATE VIEW _time AS
WITH cycles AS (
    FROM _accounts WHERE metric LIKE '%\_cycles' ESCAPE '\'
)
SELECT
    trace,
    run,
    cpu,
    vm,
    process,
    phase,
    CASE
        WHEN metric = 'work_cycles' AND mode = 'supervisor' THEN 'kernel'
        WHEN metric = 'work_cycles' THEN mode
        WHEN metric LIKE 'monitor\_%' ESCAPE '\' THEN 'monitor'
        WHEN metric = 'idle_cycles' THEN 'idle'
        ELSE replace(replace(metric, '_stall_cycles', ''), 'l1', 'l1_stall')
    END AS component,
    CASE
        WHEN metric LIKE 'monitor\_%' ESCAPE '\'
            THEN regexp_replace(metric, '^monitor_(.*)_cycles$', '\1')
        ELSE ''
    END AS cause,
    value AS cycles
FROM cycles;

CREATE VIEW time_breakdown AS
WITH parts AS (
    SELECT trace, run, cpu, vm, component, cause, sum(cycles)::UBIGINT AS cycles
    FROM _time
    GROUP BY trace, run, cpu, vm, component, cause
)
SELECT
    trace,
    run,
    cpu,
    vm,
    component,
    cause,
    cycles,
    cycles / sum(cycles) OVER (PARTITION BY trace, run, cpu) AS fraction
FROM parts;

COMMENT ON VIEW time_breakdown IS 'One part of one CPU''s time in one run; the parts add up to its clock exactly.';
COMMENT ON COLUMN time_breakdown.trace IS 'name of the trace''s folder';
COMMENT ON COLUMN time_breakdown.run IS 'name of the run''s folder';
COMMENT ON COLUMN time_breakdown.cpu IS 'CPU';
COMMENT ON COLUMN time_breakdown.vm IS 'virtual machine that the time was spent for; 0 on the bare machine';
COMMENT ON COLUMN time_breakdown.component IS 'user, kernel (with supervisor), refill: work without stalls; l1_stall, local, remote, dirty, upgrade, uncached: stalls; monitor; idle';
COMMENT ON COLUMN time_breakdown.cause IS 'cause of monitor time, otherwise empty';
COMMENT ON COLUMN time_breakdown.cycles IS 'cycles';
COMMENT ON COLUMN time_breakdown.fraction IS 'part of this CPU''s cycles in this run, 0 to 1';
