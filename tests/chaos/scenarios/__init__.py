"""One module for each kind of failure; each defines `SCENARIOS`."""
