"""Save the machine of a running capture, and go on from it on another day."""
