"""Settings: one list of them, four sources, and errors that say what to write."""

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from perdure.gateway.settings import Retry, Settings, SettingsError
from perdure.gateway.settings_sources import (
    is_loopback,
    known_settings,
    load,
    split_address,
    to_text,
)
from perdure.journal.schema import Defaults, OnMaxAttempts

CONF = Path(__file__).parents[2] / "conf"


def flat(tree: dict[str, object], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def test_perdure_toml_lists_exactly_every_setting_with_its_default() -> None:
    listed = flat(tomllib.loads((CONF / "perdure.toml").read_text()))
    expected = {key: to_text(field, field.default) for key, field in known_settings()}
    assert listed == expected
    assert list(listed) == list(expected)


def test_each_setting_in_perdure_toml_has_its_meaning_above_it() -> None:
    lines = (CONF / "perdure.toml").read_text().splitlines()
    for before, line in pairwise(lines):
        if re.match(r"[a-z_]+ = ", line):
            assert before.startswith("# "), line


@pytest.mark.parametrize("name", ["perdure.toml", "dev.toml", "production.toml"])
def test_the_profiles_load(name: str) -> None:
    assert isinstance(load(CONF / name), Settings)


def test_perdure_toml_changes_nothing() -> None:
    assert load(CONF / "perdure.toml") == Settings()


def test_file_environment_and_flags_win_in_that_order(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text('data = "a"\n[ingress]\nbind = "127.0.0.1:1"\nrequest_size_limit = "1 KiB"\n')
    environ = {"PERDURE_INGRESS__BIND": "127.0.0.1:2", "PERDURE_DATA": "b"}
    settings = load(file, environ, {"data": "c"})
    assert settings.ingress.request_size_limit_bytes == 1024
    assert settings.ingress.bind == "127.0.0.1:2"
    assert settings.data == "c"


def test_all_kinds_of_values_come_from_the_environment_too() -> None:
    settings = load(
        None,
        {
            "PERDURE_ADMIN__TOKEN": "0123456789abcdef",
            "PERDURE_HANDLERS__RETRY__FACTOR": "1.5",
            "PERDURE_HANDLERS__RETRY__MAX_ATTEMPTS": "unlimited",
            "PERDURE_HANDLERS__RETRY__ON_MAX_ATTEMPTS": "kill",
            "PERDURE_HANDLERS__INACTIVITY_TIMEOUT": "PT90S",
            "PERDURE_ENGINE__MAILBOX_LIMIT": "7",
            "PERDURE_STORE__CACHE_SIZE": "1 GiB",
            "PERDURE_INGRESS__CORS_ORIGINS": "https://a.example, https://b.example",
        },
    )
    assert settings.admin.token == "0123456789abcdef"
    assert settings.handlers.retry.factor == 1.5
    assert settings.handlers.retry.max_attempts is None
    assert settings.handlers.inactivity_timeout_ms == 90_000
    assert settings.engine.mailbox_limit == 7
    assert settings.store.cache_size_bytes == 1 << 30
    assert settings.ingress.cors_origins == ("https://a.example", "https://b.example")
    assert settings.defaults().retry.on_max_attempts is OnMaxAttempts.KILL


def test_variables_of_others_and_of_the_client_are_no_settings() -> None:
    environ = {"PERDURE": "1", "PATH": "x", "PERDURE_ADMIN_URL": "http://x", "PERDURE_CONFIG": "y"}
    assert load(None, environ) == Settings()


def test_the_defaults_of_handlers_are_those_of_the_schema() -> None:
    assert Settings().defaults() == Defaults()
    assert Retry().on_max_attempts == "pause"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"ingres.bind": "x"}, "unknown setting 'ingres.bind'.*did you mean 'ingress.bind'"),
        ({"inactivity_timeout": "x"}, "did you mean 'handlers.inactivity_timeout'"),
        ({"zzzz": "x"}, "conf/perdure.toml lists all settings"),
        (
            {"ingress.bind": "8080"},
            "bad value for 'ingress.bind' in the command line: '8080' is not",
        ),
        (
            {"ingress.request_size_limit": "65MiB"},
            "'ingress.request_size_limit'.*'65MiB' is more than 64 MiB, the most that is stored",
        ),
        ({"ingress.bind": "::1:80"}, "write an IPv6 address in brackets"),
        ({"ingress.bind": "h:70000"}, "is not an address"),
        ({"handlers.abort_timeout": "10"}, "has a number without a unit"),
        ({"handlers.abort_timeout": 10}, "10 is not a duration"),
        ({"store.cache_size": "many"}, "'many' is not a size"),
        ({"engine.mailbox_limit": "0"}, "0 is not a whole number from 1 up"),
        ({"engine.mailbox_limit": True}, "True is not a whole number"),
        ({"handlers.retry.max_attempts": "x"}, "or 'unlimited'"),
        ({"handlers.retry.factor": "0.5"}, "is not a number from 1 up"),
        ({"handlers.retry.factor": "nan"}, "is not a number from 1 up"),
        ({"tracing.sample_ratio": 1.5}, "1.5 is not a number from 0 to 1"),
        ({"tracing.sample_ratio": 10**400}, "is not a number from 0 to 1"),
        ({"handlers.lazy_state": "maybe"}, "is not true or false"),
        ({"log.level": "loud"}, "is not one of debug, info, warning, error"),
        ({"data": 3}, "3 is not a text"),
        ({"ingress.cors_origins": [1]}, "is not a list of texts"),
    ],
)
def test_a_bad_setting_says_what_came_and_what_was_expected(
    flags: dict[str, object], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        load(None, {}, flags)


def test_the_error_names_where_the_key_came_from(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[store]\ncache_sise = 3\n")
    with pytest.raises(
        SettingsError, match=r"in the file .*s\.toml; did you mean 'store.cache_size'"
    ):
        load(file)
    with pytest.raises(SettingsError, match="in the environment variable PERDURE_STORE__CACHE"):
        load(None, {"PERDURE_STORE__CACHE": "1"})


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = ")
    with pytest.raises(SettingsError, match="is not valid TOML"):
        load(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="is not valid TOML"):
        load(tmp_path / "binary.toml")


def test_addresses_are_split() -> None:
    assert split_address("[::1]:8080") == ("::1", 8080)
    assert split_address("localhost:0") == ("localhost", 0)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False),
     ("::", False), ("example.org", False)],
)  # fmt: skip
def test_loopback_is_told_from_the_rest(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("value", ["4", "8", "7.0", "newest"])
def test_a_number_with_bounds_says_them(value: str) -> None:
    key = "deployments.newest_protocol_version"
    assert load(None, {}, {key: "6"}).deployments.newest_protocol_version == 6
    with pytest.raises(SettingsError, match="is not a whole number from 5 to 7"):
        load(None, {}, {key: value})


@pytest.mark.parametrize(("given", "ratio"), [("0", 0.0), (0.1, 0.1), ("1", 1.0)])
def test_a_part_of_the_traces_can_be_kept(given: object, ratio: float) -> None:
    assert load(None, {}, {"tracing.sample_ratio": given}).tracing.sample_ratio == ratio
