CREATE VIEW runs AS
SELECT trace, run, guest, policy, costs, cpus, nodes, spec, complete, fingerprint
FROM _source_runs;

COMMENT ON VIEW runs IS 'One result over a trace: the capture itself, or a replay.';
COMMENT ON COLUMN runs.trace IS 'name of the trace''s folder';
COMMENT ON COLUMN runs.run IS 'name of the run''s folder: captured, or policy and id';
COMMENT ON COLUMN runs.guest IS 'what was run';
COMMENT ON COLUMN runs.policy IS 'page placement policy';
COMMENT ON COLUMN runs.costs IS 'cost table';
COMMENT ON COLUMN runs.cpus IS 'number of CPUs';
COMMENT ON COLUMN runs.nodes IS 'number of nodes';
COMMENT ON COLUMN runs.spec IS 'the resolved specification, as JSON';
COMMENT ON COLUMN runs.complete IS 'false if it was interrupted';
COMMENT ON COLUMN runs.fingerprint IS 'hash of the results: equal results, equal fingerprints';
