"""`python -m patchwave.cli` is `patchwave`."""

from patchwave.cli import main

main()
