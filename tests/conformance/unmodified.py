"""A target for `perdure up`: an app of the official SDK that serves the suite's programs as they are.

They are not part of this repository; MOVED_PROGRAMS names their folder.
"""

import importlib
import os
import sys

import restate

sys.path.insert(0, os.environ["MOVED_PROGRAMS"])

app = restate.app(
    [each for name in ("core", "extras") for each in importlib.import_module(name).SERVICES]
)
