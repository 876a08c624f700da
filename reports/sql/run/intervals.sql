CREATE VIEW intervals AS
SELECT trace, run, cpu, start_cycle, end_cycle, metric, value
FROM _source_intervals;

COMMENT ON VIEW intervals IS 'One metric of one CPU over one interval of its clock, for time series.';
COMMENT ON COLUMN intervals.trace IS 'name of the trace''s folder';
COMMENT ON COLUMN intervals.run IS 'name of the run''s folder';
COMMENT ON COLUMN intervals.cpu IS 'CPU';
COMMENT ON COLUMN intervals.start_cycle IS 'clock of the CPU where the interval begins';
COMMENT ON COLUMN intervals.end_cycle IS 'clock of the CPU where it ends';
COMMENT ON COLUMN intervals.metric IS 'what was counted, as in totals';
COMMENT ON COLUMN intervals.value IS 'what the interval added';
