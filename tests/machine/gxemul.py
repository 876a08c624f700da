"""Run a batch of blocks on GXemul's test machine, which tells results through its console.

GXemul writes no memory to a file: a reporter in the image prints a hash of each block's state.
"""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from pathlib import Path

import numpy as np

from tests.machine.assemble import assemble
from tests.machine.blocks import STATE_WORDS, Batch, elf

REPORTER = 0x80003000
MULTIPLIER = 0x9E3779B1
PROGRAM = """
    li   $s0, states
    li   $s1, blocks
    li   $s2, 0xb0000000        # console; a store 16 bytes behind it halts
    li   $s3, 0x9e3779b1
block:
    addiu $t0, $zero, 0
    addiu $t1, $s0, state_bytes
word:
    lw   $t2, 0($s0)
    rotr $t0, $t0, 27
    xor  $t0, $t0, $t2
    mul  $t0, $t0, $s3
    addiu $s0, $s0, 4
    bne  $s0, $t1, word
    nop
    addiu $t1, $zero, 8
digit:
    rotr $t0, $t0, 28
    andi $t2, $t0, 15
    addiu $t2, $t2, 0x61        # a to p
    sb   $t2, 0($s2)
    addiu $t1, $t1, -1
    bne  $t1, $zero, digit
    nop
    addiu $s1, $s1, -1
    bne  $s1, $zero, block
    nop
    addiu $t2, $zero, 0x25
    sb   $t2, 0($s2)
    sw   $zero, 16($s2)
    b    0x80003000
    nop
"""


def hashes(states: np.ndarray) -> np.ndarray:
    """Return what the reporter makes of the states: uint32 [blocks]."""
    value = np.zeros(len(states), np.uint32)
    for word in states.T:
        value = ((value << np.uint32(5)) | (value >> np.uint32(27))) ^ word
        value *= np.uint32(MULTIPLIER)
    return value


def on_gxemul(batch: Batch, folder: Path, seconds: float = 20) -> np.ndarray:
    """Run the batch on GXemul; return the hashes of its blocks' states."""
    words = assemble(
        PROGRAM, REPORTER, states=batch.states, blocks=batch.blocks, state_bytes=4 * STATE_WORDS
    )
    image = batch.image.copy()
    at = (REPORTER & 0x1FFFFFFF) >> 2
    image[at : at + len(words)] = words
    end = (batch.end & 0x1FFFFFFF) >> 2
    image[end : end + 2] = assemble("j reporter\n nop", batch.end, reporter=REPORTER)
    file = folder / "image.elf"
    file.write_bytes(elf(batch, image))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["gxemul", "-A", "-q", "-J", "-E", "testmips", "-C", "24KEc", "-M", "64", str(file)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    text = b""
    deadline = time.monotonic() + seconds
    try:
        while b"%" not in text and time.monotonic() < deadline:
            if select.select([ours], [], [], 1)[0]:
                try:
                    text += os.read(ours, 1 << 16)
                except OSError:
                    break
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    letters = text.split(b"%")[0].strip()[-8 * batch.blocks :]
    assert b"%" in text, text[-500:]
    assert len(letters) == 8 * batch.blocks
    digits = np.frombuffer(letters, np.uint8).reshape(-1, 8).astype(np.int64) - ord("a")
    return (digits << np.arange(28, -4, -4)).sum(axis=1).astype(np.uint32)
