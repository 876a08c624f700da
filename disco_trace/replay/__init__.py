"""Drive the memory system from a trace: what would have happened elsewhere."""
