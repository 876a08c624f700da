"""Tiny programs in machine words: raw images, loaded at physical 0 and begun at KSEG0."""

from __future__ import annotations

import struct
from pathlib import Path

T0, T1, T2, ZERO = 8, 9, 10, 0
BRANCH_SELF = [0x1000FFFF, 0]  # b .; nop
WAIT = 0x42000020


def lui(target: int, high: int) -> int:
    """Set the upper half of a register."""
    return 15 << 26 | target << 16 | high


def ori(target: int, source: int, low: int) -> int:
    """Or an unsigned half into a register."""
    return 13 << 26 | source << 21 | target << 16 | low


def addiu(target: int, source: int, value: int) -> int:
    """Add a signed half."""
    return 9 << 26 | source << 21 | target << 16 | value & 0xFFFF


def lw(target: int, offset: int, base: int) -> int:
    """Load a word."""
    return 35 << 26 | base << 21 | target << 16 | offset & 0xFFFF


def sw(target: int, offset: int, base: int) -> int:
    """Store a word."""
    return 43 << 26 | base << 21 | target << 16 | offset & 0xFFFF


def address(target: int, value: int) -> list[int]:
    """Load a 32-bit constant."""
    return [lui(target, value >> 16), ori(target, target, value & 0xFFFF)]


def power_off(status: int) -> list[int]:
    """Store a register's value to the power device (through KSEG1), then stay."""
    return [*address(T0, 0xBF001000), sw(status, 0, T0), *BRANCH_SELF]


def image(path: Path, words: list[int]) -> Path:
    """Write a raw image."""
    path.write_bytes(struct.pack(f"<{len(words)}I", *words))
    return path
