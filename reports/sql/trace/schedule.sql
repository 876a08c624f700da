-- include: common.contexts

CREATE VIEW schedule AS
SELECT
    r.trace,
    r.seq,
    r.cycle,
    r.cpu,
    c.vm,
    c.vcpu,
    c.process,
    c.mode,
    c.phase,
    _enum_schedule_event(r.event) AS event,
    r.from_vcpu,
    r.to_vcpu,
    r.stolen AS stolen_cycles
FROM _source_schedule AS r
LEFT JOIN _contexts AS c USING (context)
WHERE _in_phase(c.phase);

COMMENT ON VIEW schedule IS 'One decision of the monitor''s scheduler of virtual CPUs.';
COMMENT ON COLUMN schedule.trace IS 'name of the trace''s folder';
COMMENT ON COLUMN schedule.seq IS 'global sequence number, in captured order';
COMMENT ON COLUMN schedule.cycle IS 'clock of the CPU, captured run';
COMMENT ON COLUMN schedule.cpu IS 'CPU that acted';
COMMENT ON COLUMN schedule.vm IS 'virtual machine; 0 on the bare machine';
COMMENT ON COLUMN schedule.vcpu IS 'virtual CPU; the CPU on the bare machine';
COMMENT ON COLUMN schedule.process IS 'the guest''s name for the address space at that time, or its number (asid n)';
COMMENT ON COLUMN schedule.mode IS 'kernel, supervisor, user or refill (inside a TLB refill handler)';
COMMENT ON COLUMN schedule.phase IS 'innermost open phase: the guest''s name for it, or its number; empty for none';
COMMENT ON COLUMN schedule.event IS 'run, preempt, idle, migrate or stop';
COMMENT ON COLUMN schedule.from_vcpu IS 'virtual CPU that ran (vm x 65536 + vcpu)';
COMMENT ON COLUMN schedule.to_vcpu IS 'virtual CPU that runs next (vm x 65536 + vcpu)';
COMMENT ON COLUMN schedule.stolen_cycles IS 'how long the one that runs next could have run before, and did not';
