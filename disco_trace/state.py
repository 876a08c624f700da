"""Say how much room a state tuple keeps for its own words; see `places`."""

from __future__ import annotations

from typing import Final

# `places` compares it with what a tuple needs: seven words an array of one dimension.
HERE_WORDS: Final = 512
