"""Programs written on the official SDK move by changing one import: the conformance suite drives them.

What the suite may not ask: `suite_plugin.LEFT_OUT`, `hosted.LEFT_OUT`. PROFILES in the environment
chooses others, comma separated.
"""

import os
import sys
from pathlib import Path

import pytest

from tests.conformance import shared_suite


@pytest.mark.parametrize("profile", os.environ.get("PROFILES", "default").split(","))
def test_programs_of_the_official_sdk_run_on_perdure(profile: str, tmp_path: Path) -> None:
    shared_suite.require()
    more = {
        "MOVED_PROGRAMS": str(shared_suite.SHARED / "services_py"),
        "MOVED_PYTHON": sys.executable,
    }
    shared_suite.run("target.json", profile, ["suite_plugin", "hosted"], tmp_path, more)
