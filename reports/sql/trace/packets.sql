-- include: common.contexts

CREATE VIEW packets AS
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
    r.peer,
    r.pages_remapped,
    r.pages_copied,
    r.bytes,
    (r.pages_remapped + r.pages_copied = 0) AS lost
FROM _source_packets AS r
LEFT JOIN _contexts AS c USING (context)
WHERE _in_phase(c.phase);

COMMENT ON VIEW packets IS 'One packet that reached, or failed to reach, one receiver.';
COMMENT ON COLUMN packets.trace IS 'name of the trace''s folder';
COMMENT ON COLUMN packets.seq IS 'global sequence number, in captured order';
COMMENT ON COLUMN packets.cycle IS 'clock of the CPU, captured run';
COMMENT ON COLUMN packets.cpu IS 'CPU that gave the sender its last notice while that was idle';
COMMENT ON COLUMN packets.vm IS 'virtual machine; 0 on the bare machine';
COMMENT ON COLUMN packets.vcpu IS 'virtual CPU; the CPU on the bare machine';
COMMENT ON COLUMN packets.process IS 'the guest''s name for the address space at that time, or its number (asid n)';
COMMENT ON COLUMN packets.mode IS 'kernel, supervisor, user or refill (inside a TLB refill handler)';
COMMENT ON COLUMN packets.phase IS 'innermost open phase: the guest''s name for it, or its number; empty for none';
COMMENT ON COLUMN packets.peer IS 'receiver: its slot; under the monitor, its virtual machine';
COMMENT ON COLUMN packets.pages_remapped IS 'aligned full pages that were passed by remapping';
COMMENT ON COLUMN packets.pages_copied IS 'pages, or parts of pages, that were copied';
COMMENT ON COLUMN packets.bytes IS 'length of the packet';
COMMENT ON COLUMN packets.lost IS 'whether the receiver did not listen, or had no room for it';
