-- include: common.contexts

CREATE VIEW page_events AS
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
    r.guest_page,
    _enum_page_event(r.event) AS event,
    r.other_vm,
    r.bytes,
    r.content,
    r.other_page
FROM _source_page_events AS r
LEFT JOIN _contexts AS c USING (context)
WHERE _in_phase(c.phase);

COMMENT ON VIEW page_events IS 'One event in the life of a guest page, as the guest or the monitor told it.';
COMMENT ON COLUMN page_events.trace IS 'name of the trace''s folder';
COMMENT ON COLUMN page_events.seq IS 'global sequence number, in captured order';
COMMENT ON COLUMN page_events.cycle IS 'clock of the CPU, captured run';
COMMENT ON COLUMN page_events.cpu IS 'CPU that acted';
COMMENT ON COLUMN page_events.vm IS 'virtual machine; 0 on the bare machine';
COMMENT ON COLUMN page_events.vcpu IS 'virtual CPU; the CPU on the bare machine';
COMMENT ON COLUMN page_events.process IS 'the guest''s name for the address space at that time, or its number (asid n)';
COMMENT ON COLUMN page_events.mode IS 'kernel, supervisor, user or refill (inside a TLB refill handler)';
COMMENT ON COLUMN page_events.phase IS 'innermost open phase: the guest''s name for it, or its number; empty for none';
COMMENT ON COLUMN page_events.guest_page IS 'guest-physical page number (4 KiB pages)';
COMMENT ON COLUMN page_events.event IS 'allocate, map, share, break, reuse, swap_out, swap_in, lend, reclaim, free, zero or class';
COMMENT ON COLUMN page_events.other_vm IS 'the other virtual machine of a share or loan, or at the end of a message';
COMMENT ON COLUMN page_events.bytes IS 'bytes concerned';
COMMENT ON COLUMN page_events.content IS 'number of the content that a page shows (map, share, lend ... swap_out), or its class (class)';
COMMENT ON COLUMN page_events.other_page IS 'the other machine''s guest page at the end of a message';
