"""Serves the rules to the engine, and nothing else."""

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path[0] = str(PROJECT)  # not this folder: its modules are only ever imported from the package

from policy.server import serve

serve(PROJECT)
