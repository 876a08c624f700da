"""Name the prices of monitor work: what one unit of recorded work costs, in microseconds."""

from __future__ import annotations

from typing import Annotated

import msgspec

# A second for one piece of work: far above anything real, far below what overflows a clock.
Price = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Hold one cost table. Every price is in microseconds; `prices["migrate_us"]` works too.

    The defaults are zero, so that a table says everything that it charges for.
    """

    migrate_us: Annotated[Price, msgspec.Meta(description="moving one page to another node")] = 0.0
    replicate_us: Annotated[Price, msgspec.Meta(description="copying one page to a node")] = 0.0
    collapse_us: Annotated[
        Price, msgspec.Meta(description="dropping a page's replicas at a write")
    ] = 0.0
    refused_us: Annotated[
        Price, msgspec.Meta(description="a hot page looked at and left where it is")
    ] = 0.0
    shootdown_us_per_cpu: Annotated[
        Price, msgspec.Meta(description="each CPU interrupted to drop a TLB entry")
    ] = 0.0

    def __getitem__(self, name: str) -> float:
        """Return a price by name; KeyError for an unknown one."""
        if name not in self.__struct_fields__:
            raise KeyError(name)
        return float(getattr(self, name))
