-- include: common.contexts
-- include: run.runs

-- Everything that a run counted, by CPU and context: totals and the breakdown are sums over it.
CREATE VIEW _accounts AS
SELECT a.trace, a.run, a.cpu, c.vm, c.process, c.mode, c.phase, a.metric, a.value
FROM _source_accounts AS a
LEFT JOIN _contexts AS c USING (context)
WHERE _in_phase(c.phase);
