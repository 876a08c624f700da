"""Price what the monitor does; the tables stand in `capture/costs/*.toml`."""

from disco_trace.costs.prices import Prices

__all__ = ["Prices"]
