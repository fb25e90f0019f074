"""Unmodified programs on the official SDKs, as deployments of `perdure up`: the conformance suite.

What the suite may not ask yet: `without_sql.LEFT_OUT`. PROFILES in the environment chooses others, comma
separated. The JavaScript programs want NODE_PATH-like help: CONF_HOME/npm, where run.sh installs the SDK.
"""

import os
from pathlib import Path

import pytest

from tests.conformance import shared_suite

PROFILES = os.environ.get("PROFILES", "default,suspend,reqres,lazy,policy,killpolicy,signing")


@pytest.mark.parametrize("profile", PROFILES.split(","))
def test_the_official_python_sdk_runs_on_perdure(profile: str, tmp_path: Path) -> None:
    shared_suite.require()
    more = {"CONF_SERVICES_LANG": "py"}
    shared_suite.run("perdure.json", profile, ["without_sql"], tmp_path, more)
