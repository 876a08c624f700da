-- include: run.labels
-- include: run.totals

-- What people compare runs by, one row for each run.
CREATE VIEW _summary AS
WITH sums AS (
    SELECT
        trace,
        run,
        sum(value) FILTER (metric = 'instructions')::DOUBLE AS instructions,
        sum(value) FILTER (metric = 'cycles')::DOUBLE AS cycles,
        sum(value) FILTER (metric = 'idle_cycles')::DOUBLE AS idle_cycles,
        sum(value) FILTER (metric = 'monitor_cycles')::DOUBLE AS monitor_cycles,
        sum(value) FILTER (metric = 'l2_misses')::DOUBLE AS l2_misses,
        sum(value) FILTER (metric = 'local_misses')::DOUBLE AS local_misses,
        sum(value) FILTER (metric = 'remote_misses')::DOUBLE AS remote_misses,
        sum(value) FILTER (metric = 'dirty_misses')::DOUBLE AS dirty_misses,
        sum(value) FILTER (metric = 'tlb_misses')::DOUBLE AS tlb_misses,
        sum(value) FILTER (metric = 'migrations')::DOUBLE AS migrations,
        sum(value) FILTER (metric = 'replications')::DOUBLE AS replications,
        sum(value) FILTER (metric = 'collapses')::DOUBLE AS collapses,
        max(value) FILTER (metric = 'cycles') AS elapsed_cycles,
        any_value(fidelity) FILTER (metric = 'cycles') AS fidelity
    FROM totals
    GROUP BY trace, run
),
joined AS (
    SELECT
        *,
        elapsed_cycles / cycles_per_ms AS elapsed_ms,
        (cycles - idle_cycles) / cycles_per_ms AS busy_ms
    FROM sums JOIN _labels USING (trace, run)
)
SELECT
    *,
    local_misses / nullif(l2_misses, 0) AS local_fraction,
    monitor_cycles / nullif(cycles, 0) AS monitor_fraction,
    migrations + replications + collapses AS moves,
    max(elapsed_cycles) FILTER (run = 'captured') OVER (PARTITION BY trace)
        / nullif(elapsed_cycles, 0) AS speed_up,
    -- Waiting in a guest that spins or sleeps at barriers moves with the slowest CPU, which a
    -- policy may not touch; time that is not idle shows what it saves on all of them.
    1 - busy_ms / nullif(max(busy_ms) FILTER (run = 'captured') OVER (PARTITION BY trace), 0)
        AS busy_saved
FROM joined
ORDER BY position;
