"""Unmodified programs on the official SDKs, registered or hosted: the conformance suite drives them.

The JavaScript SDK is found through CONF_NPM, a folder with node_modules. Other profiles than these by hand:
PROFILES in the environment, comma separated.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.conformance import shared_suite

PYTHON_PROFILES = "default,suspend,signing,durable"
JAVASCRIPT_PROFILES = "default"
HOSTED_PROFILES = "suspend"
PROCESSES_PROFILES = "default"


def _chosen(profiles: str) -> list[str]:
    return os.environ.get("PROFILES", profiles).split(",")


@pytest.mark.parametrize("profile", _chosen(PYTHON_PROFILES))
def test_the_official_python_sdk_runs_on_perdure(profile: str, tmp_path: Path) -> None:
    shared_suite.require()
    more = {"CONF_SERVICES_LANG": "py"}
    shared_suite.run("perdure.json", profile, ["suite_plugin"], tmp_path, more)


@pytest.mark.parametrize("profile", _chosen(PROCESSES_PROFILES))
def test_it_runs_on_processes_and_several_partitions(profile: str, tmp_path: Path) -> None:
    shared_suite.require()
    more = {"CONF_SERVICES_LANG": "py"}
    shared_suite.run("perdure-processes.json", profile, ["suite_plugin"], tmp_path, more)


@pytest.mark.parametrize("profile", _chosen(JAVASCRIPT_PROFILES))
def test_the_official_javascript_sdk_runs_on_perdure(profile: str, tmp_path: Path) -> None:
    shared_suite.require()
    if shutil.which("node") is None or "CONF_NPM" not in os.environ:
        pytest.skip("needs node, and CONF_NPM: a folder with @restatedev/restate-sdk")
    more = {"CONF_SERVICES_LANG": "js"}
    shared_suite.run("perdure.json", profile, ["suite_plugin"], tmp_path, more)


@pytest.mark.parametrize("profile", _chosen(HOSTED_PROFILES))
def test_an_app_of_the_official_python_sdk_runs_inside_perdure(
    profile: str, tmp_path: Path
) -> None:
    shared_suite.require()
    more = {
        "MOVED_PROGRAMS": str(shared_suite.SHARED / "services_py"),
        "MOVED_PYTHON": sys.executable,
    }
    shared_suite.run("hosted_app.json", profile, ["suite_plugin", "hosted"], tmp_path, more)
