-- include: run.labels
-- include: run.time_breakdown

-- What each run but the first spends more than the first, by component and by whose time it is.
CREATE VIEW _differences AS
WITH parts AS (
    SELECT trace, run, component, sum(cycles)::HUGEINT AS cycles
    FROM time_breakdown
    GROUP BY ALL
),
placed AS (
    SELECT l.trace, l.run, l.label, l.position, min(l.position) OVER () AS base
    FROM _labels AS l
),
components AS (SELECT DISTINCT component FROM parts),
filled AS (
    SELECT p.*, c.component, coalesce(t.cycles, 0) AS cycles
    FROM placed AS p
    CROSS JOIN components AS c
    LEFT JOIN parts AS t ON t.trace = p.trace AND t.run = p.run AND t.component = c.component
),
first AS (FROM filled WHERE position = base),
busy AS (SELECT sum(cycles) AS cycles FROM first WHERE component <> 'idle')
SELECT
    f.trace,
    f.run,
    f.label,
    f.position,
    CASE
        WHEN f.component IN ('user', 'kernel', 'refill') THEN 'guest'
        WHEN f.component IN ('monitor', 'idle') THEN f.component
        ELSE 'hardware'
    END AS account,
    f.component,
    one.cycles AS first_cycles,
    f.cycles,
    f.cycles - one.cycles AS difference,
    one.trace AS first_trace,
    one.run AS first_run,
    one.label AS first,
    busy.cycles AS first_busy
FROM filled AS f
JOIN first AS one USING (component)
CROSS JOIN busy
WHERE f.position <> f.base AND (f.cycles <> 0 OR one.cycles <> 0);
