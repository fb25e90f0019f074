"""A target for `perdure up`: programs written on the official SDK, with only their imports changed.

The programs are not part of this repository. They are read from the folder that the environment
variable MOVED_PROGRAMS names, and changed in memory.
"""

import os
import re
import sys
from pathlib import Path
from types import ModuleType

import perdure
from perdure.endpoint import AnyService

PROGRAMS = ("core", "extras")
_IMPORT = re.compile(r"^(\s*(?:from|import)\s+)restate\b", re.MULTILINE)


def moved(source: str) -> str:
    """The one change that a program needs: it imports perdure where it imported restate."""
    plain = re.sub(r"^(\s*)import restate$", r"\1import perdure as restate", source, flags=re.M)
    return _IMPORT.sub(r"\1perdure", plain)


def load(folder: Path, name: str) -> ModuleType:
    """One program as a module of its own name, so that the programs can import each other."""
    path = folder / f"{name}.py"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    exec(compile(moved(path.read_text()), str(path), "exec"), module.__dict__)
    return module


def services(folder: Path) -> list[AnyService]:
    return [each for name in PROGRAMS for each in load(folder, name).SERVICES]


if "MOVED_PROGRAMS" in os.environ:
    app = perdure.app(services(Path(os.environ["MOVED_PROGRAMS"])))
