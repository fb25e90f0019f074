"""Makes ``samples`` importable: it is no part of the package, and users run its files by path."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2]))
