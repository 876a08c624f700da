"""Placement policies: where a page first goes, and when it moves.

A policy is two verbs, each a compiled function in the file of its name:

* `place(m, cpu, page) -> frame` for a page without a frame, −1 if no memory is left;
* `on_miss(m, cpu, seq, page, frame, write)` after a counted miss, for the policies that move.

`dispatch.py` is the explicit list of them.
"""
