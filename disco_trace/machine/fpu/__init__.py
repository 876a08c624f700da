"""Coprocessor 1: floating point of MIPS32 release 2, with formats S, D, W and L.

Two ways give one result. `fast` computes with the host's IEEE arithmetic where that is known to
be right and what it would signal is known; `execute`, over `softfloat`, does all in integers.
"""
