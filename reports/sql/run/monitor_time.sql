-- include: run.labels
-- include: run.time_breakdown

-- Monitor time by cause, for charts: the largest causes of all runs together by name, as many as
-- colours can be told apart, the rest in one.
CREATE VIEW _monitor_time AS
WITH spent AS (
    SELECT position, label, cause, sum(cycles) AS cycles
    FROM time_breakdown JOIN _labels USING (trace, run)
    WHERE component = 'monitor'
    GROUP BY ALL
),
ranked AS (
    SELECT cause, row_number() OVER (ORDER BY sum(cycles) DESC, cause) AS place
    FROM spent
    GROUP BY cause
)
SELECT
    position,
    label,
    CASE WHEN place < 8 THEN cause ELSE 'all others' END AS cause,
    sum(cycles) AS cycles,
    min(place) AS place
FROM spent JOIN ranked USING (cause)
GROUP BY position, label, CASE WHEN place < 8 THEN cause ELSE 'all others' END;
