-- include: run.runs

-- A name for each run in charts: the capture, or the policy with what else the replay changes.
CREATE VIEW _labels AS
WITH named AS (
    SELECT
        r.*,
        CASE
            WHEN r.run = 'captured' THEN 'captured (' || r.policy || ')'
            WHEN s.changes <> '' THEN r.policy || ', ' || s.changes
            ELSE r.policy
        END AS name,
        (SELECT count(DISTINCT trace) FROM runs) AS traces
    FROM runs AS r
    JOIN _source_runs AS s USING (trace, run)
),
told_apart AS (
    -- Runs of one specification can differ in what was recorded: their folders tell them apart.
    SELECT
        * REPLACE (
            CASE WHEN count(*) OVER (PARTITION BY trace, name) = 1 THEN name ELSE run END AS name
        )
    FROM named
)
SELECT
    trace,
    run,
    policy,
    CASE WHEN traces > 1 THEN trace || ': ' || name ELSE name END AS label,
    coalesce((spec->>'$.machine.clock_mhz')::DOUBLE, 300) * 1000 AS cycles_per_ms,
    row_number() OVER (ORDER BY trace, run <> 'captured', policy, length(name), run) AS position
FROM told_apart;
