"""Serves the policies to the engine, and nothing else."""

import os
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path[0] = str(PROJECT)  # not this folder: its modules are only ever imported from the package

from pulumi_policy import PolicyPack

from policy.pack import NAME, policies

PolicyPack(NAME, policies(PROJECT, preview=os.environ.get("PULUMI_DRY_RUN") == "true"))
