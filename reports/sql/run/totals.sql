-- include: run.accounts

CREATE VIEW totals AS
WITH counted AS (
    SELECT trace, run, cpu, metric, sum(value)::UBIGINT AS value
    FROM _accounts
    GROUP BY trace, run, cpu, metric
),
derived AS (
    SELECT trace, run, cpu, 'cycles' AS metric, sum(value)::UBIGINT AS value
    FROM counted
    WHERE metric LIKE '%\_cycles' ESCAPE '\'
    GROUP BY trace, run, cpu
    UNION ALL
    SELECT trace, run, cpu, 'l2_misses', sum(value)::UBIGINT
    FROM counted
    WHERE metric IN ('local_misses', 'remote_misses', 'dirty_misses')
    GROUP BY trace, run, cpu
    UNION ALL
    SELECT trace, run, cpu, 'monitor_cycles', sum(value)::UBIGINT
    FROM counted
    WHERE metric LIKE 'monitor\_%' ESCAPE '\'
    GROUP BY trace, run, cpu
),
-- The accounts hold what is not zero; who asks for a metric wants its zero too.
expected AS (
    SELECT trace, run, cpu::UTINYINT AS cpu, metric, 0::UBIGINT AS value
    FROM _source_runs
    CROSS JOIN unnest(range(cpus)) AS each_cpu (cpu)
    CROSS JOIN _metrics
),
merged AS (
    SELECT trace, run, cpu, metric, sum(value)::UBIGINT AS value
    FROM (FROM counted UNION ALL FROM derived UNION ALL FROM expected)
    GROUP BY trace, run, cpu, metric
)
SELECT
    m.trace,
    m.run,
    m.cpu,
    m.metric,
    m.value,
    CASE
        WHEN m.metric LIKE '%cycles' THEN 'cycles'
        WHEN m.metric = 'instructions' THEN 'instructions'
        WHEN m.metric LIKE '%\_misses' ESCAPE '\' THEN 'misses'
        ELSE 'events'
    END AS unit,
    coalesce(f.fidelity, d.fidelity, '') AS fidelity
FROM merged AS m
LEFT JOIN _source_fidelity AS f USING (trace, run, metric)
LEFT JOIN (FROM _source_fidelity WHERE metric = '') AS d
    ON d.trace = m.trace AND d.run = m.run;

COMMENT ON VIEW totals IS 'One total of one CPU in one run; sum over cpu for the machine.';
COMMENT ON COLUMN totals.trace IS 'name of the trace''s folder';
COMMENT ON COLUMN totals.run IS 'name of the run''s folder';
COMMENT ON COLUMN totals.cpu IS 'CPU';
COMMENT ON COLUMN totals.metric IS 'what was counted; cycles is the sum of all *_cycles, monitor_cycles of monitor_*_cycles, l2_misses of local, remote and dirty';
COMMENT ON COLUMN totals.value IS 'the count, 0 included';
COMMENT ON COLUMN totals.unit IS 'cycles, instructions, misses or events';
COMMENT ON COLUMN totals.fidelity IS 'exact, approximate or no feedback: how the number relates to a fresh capture';
