"""Copy-on-write disks: one image, an index of the blocks in memory, and what each machine wrote.

After D97, section 4.4: the index of a disk says which of its blocks a page of memory holds (it is
shown to whoever reads the block next), that of a disk and machine which sectors the machine has
written. Those stand in an area of the machine's own, and are gone when the run ends.
"""

from __future__ import annotations

from disco_trace.jit import helper, inline
from disco_trace.machine.layout import X_DISK, X_O_BLOCKS, X_O_PRIVATE
from disco_trace.machine.slots import SECTOR

SECTOR_WORDS = SECTOR // 4
SECTORS_PER_WORD = 32  # of the index of written sectors


@inline
def content_of_block(mc, block):
    """Return the content that holds a block of the disks' images, or −1."""
    return mc.mon[mc.p[X_O_BLOCKS] + block] - 1


@inline
def written_word(mc, vm, sector):
    """Return where the index of a machine's written sectors has the word of one."""
    sectors = mc.p[X_DISK] // SECTOR_WORDS
    words = sectors // SECTORS_PER_WORD + 1
    return mc.p[X_O_PRIVATE] + vm * words + sector // SECTORS_PER_WORD


@inline
def is_private(mc, vm, sector):
    """Tell whether a machine has written a sector, counted through all images."""
    return (mc.mon[written_word(mc, vm, sector)] >> (sector % SECTORS_PER_WORD)) & 1 != 0


@inline
def own_disk_byte(mc, vm, disk):
    """Return where a byte of the images stands in a machine's own area."""
    return disk + 4 * mc.p[X_DISK] * (1 + vm)


@helper
def make_private(mc, vm, sector):
    """Give a machine a sector of its own, with what the image has there."""
    if is_private(mc, vm, sector):
        return
    mc.mon[written_word(mc, vm, sector)] |= 1 << (sector % SECTORS_PER_WORD)
    word = sector * SECTOR_WORDS
    own = own_disk_byte(mc, vm, 4 * word) >> 2
    for place in range(SECTOR_WORDS):
        mc.disk[own + place] = mc.disk[word + place]
