CREATE VIEW page_moves AS
SELECT
    trace,
    run,
    seq,
    cycle,
    nullif(vm, 65535) AS vm,
    guest_page,
    _enum_move_action(action) AS action,
    _enum_move_reason(reason) AS reason,
    nullif(from_node, 255) AS from_node,
    nullif(to_node, 255) AS to_node,
    cycles
FROM _source_moves;

COMMENT ON VIEW page_moves IS 'One decision of the placement policy about one guest page.';
COMMENT ON COLUMN page_moves.trace IS 'name of the trace''s folder';
COMMENT ON COLUMN page_moves.run IS 'name of the run''s folder';
COMMENT ON COLUMN page_moves.seq IS 'sequence number of the reference at which it was decided';
COMMENT ON COLUMN page_moves.cycle IS 'clock of the CPU that made that reference';
COMMENT ON COLUMN page_moves.vm IS 'virtual machine; 0 on the bare machine; none for a shared page';
COMMENT ON COLUMN page_moves.guest_page IS 'guest-physical page number (4 KiB pages)';
COMMENT ON COLUMN page_moves.action IS 'place (first frame), migrate, replicate, collapse or refuse';
COMMENT ON COLUMN page_moves.reason IS 'why';
COMMENT ON COLUMN page_moves.from_node IS 'node of the frame before; null for none';
COMMENT ON COLUMN page_moves.to_node IS 'node of the frame after; null for none';
COMMENT ON COLUMN page_moves.cycles IS 'what the move cost';
