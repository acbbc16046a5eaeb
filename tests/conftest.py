"""What holds for every test: it and the programs that it starts keep their compiled bytecode."""

from __future__ import annotations

import os
import sys

# A service, a node daemon and a command are started some five hundred times. Without bytecode each start compiles all
# of the package again, which takes longer than the start itself.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
