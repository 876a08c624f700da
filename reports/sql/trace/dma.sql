-- include: common.contexts

CREATE VIEW dma AS
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
    r.device,
    r.request,
    _enum_dma_op(r.op) AS op,
    (r.address >> 12)::UBIGINT AS guest_page,
    (r.address & 4095)::USMALLINT AS first_byte,
    r.block,
    r.bytes
FROM _source_dma AS r
LEFT JOIN _contexts AS c USING (context)
WHERE _in_phase(c.phase);

COMMENT ON VIEW dma IS 'One page, or part of one, that a device read or wrote.';
COMMENT ON COLUMN dma.trace IS 'name of the trace''s folder';
COMMENT ON COLUMN dma.seq IS 'global sequence number, in captured order';
COMMENT ON COLUMN dma.cycle IS 'clock of the CPU, captured run';
COMMENT ON COLUMN dma.cpu IS 'CPU that gave the device its last notice while that was idle';
COMMENT ON COLUMN dma.vm IS 'virtual machine; 0 on the bare machine';
COMMENT ON COLUMN dma.vcpu IS 'virtual CPU; the CPU on the bare machine';
COMMENT ON COLUMN dma.process IS 'the guest''s name for the address space at that time, or its number (asid n)';
COMMENT ON COLUMN dma.mode IS 'kernel, supervisor, user or refill (inside a TLB refill handler)';
COMMENT ON COLUMN dma.phase IS 'innermost open phase: the guest''s name for it, or its number; empty for none';
COMMENT ON COLUMN dma.device IS 'slot of the device: 0 to 3 are disks, 4 to 7 ports of the network';
COMMENT ON COLUMN dma.request IS 'number of the request, of the device that works on it';
COMMENT ON COLUMN dma.op IS 'read or write of data by the device, ring_read or ring_write of its queues';
COMMENT ON COLUMN dma.guest_page IS 'guest-physical page number (4 KiB pages)';
COMMENT ON COLUMN dma.first_byte IS 'where in the page it begins';
COMMENT ON COLUMN dma.block IS 'sector of 512 bytes on the disk; 0 elsewhere';
COMMENT ON COLUMN dma.bytes IS 'bytes moved, within one page';
