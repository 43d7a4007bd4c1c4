"""`python -m sweeps` is the command `medsweep`."""

from sweeps.cli import main

main()
