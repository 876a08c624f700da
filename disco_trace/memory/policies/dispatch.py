"""The explicit list of placement policies, in the form that runs."""

from __future__ import annotations

from disco_trace.jit import helper
from disco_trace.memory.layout import (
    C_NODE,
    CPU_WORDS,
    FIRST_TOUCH,
    GUEST,
    P_INITIAL,
    P_POLICY,
    ROUND_ROBIN,
)
from disco_trace.memory.placement import A_PLACE, log_move, map_everywhere, node_of
from disco_trace.memory.policies.static import (
    place_first_touch,
    place_guest,
    place_guest_node,
    place_round_robin,
    place_single_node,
)
from disco_trace.memory.second_level import rehome
from disco_trace.trace.schema import MOVE_REASONS

R_FIRST_TOUCH = MOVE_REASONS.index("first_touch")
R_ROUND_ROBIN = MOVE_REASONS.index("round_robin")
R_POLICY = MOVE_REASONS.index("policy")


@helper
def place(m, cpu, seq, page):
    """Give a page its first frame; return it, or −1 if the machine has none left."""
    initial = m.p[P_INITIAL]
    reason = R_POLICY
    if initial == GUEST:
        if m.p[P_POLICY] == GUEST:
            frame = place_guest(m, page)
        else:
            frame = place_guest_node(m, page)
    elif initial == FIRST_TOUCH:
        frame = place_first_touch(m, cpu)
        reason = R_FIRST_TOUCH
    elif initial == ROUND_ROBIN:
        frame = place_round_robin(m)
        reason = R_ROUND_ROBIN
    else:
        frame = place_single_node(m)
    if frame < 0:
        return frame
    map_everywhere(m, page, frame)
    rehome(m, page, frame)
    if m.p[P_POLICY] != GUEST:
        node = m.cpu[cpu * CPU_WORDS + C_NODE]
        log_move(m, cpu, seq, page, A_PLACE, reason, node, node_of(m, frame), 0)
    return frame
