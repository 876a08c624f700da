-- include: run.runs

-- A short name for each run in charts: the capture, or the policy where only one replay has it.
CREATE VIEW _labels AS
WITH counted AS (
    SELECT
        *,
        count(*) OVER (PARTITION BY trace, run = 'captured', policy) AS same,
        (SELECT count(DISTINCT trace) FROM runs) AS traces
    FROM runs
),
short AS (
    SELECT
        *,
        CASE
            WHEN run = 'captured' THEN 'captured (' || policy || ')'
            WHEN same = 1 THEN policy
            ELSE run
        END AS name
    FROM counted
)
SELECT
    trace,
    run,
    policy,
    CASE WHEN traces > 1 THEN trace || ': ' || name ELSE name END AS label,
    coalesce((spec->>'$.machine.clock_mhz')::DOUBLE, 300) * 1000 AS cycles_per_ms,
    row_number() OVER (ORDER BY trace, run <> 'captured', run) AS position
FROM short;
