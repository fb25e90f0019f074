"""Which addresses a deployment may have (reliability S5)."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from perdure.actors.remote.addresses import AddressGuard
from perdure.actors.remote.port import TransportFailed


def resolve(guard: AddressGuard, host: str, port: int = 9080) -> list[tuple[str, int]]:
    return asyncio.run(guard.resolve(host, port))


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "0xA9FEA9FE", "2852039166", "0251.0376.0251.0376", "169.254.43518",
        "[::ffff:169.254.169.254]", "::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
        "::169.254.169.254", "fe80::1", "fe80::1%lo", "0.0.0.0", "0", "[::]", "::ffff:0.0.0.0",
        "224.0.0.1", "239.1.2.3", "ff02::1", "255.255.255.255", "100.100.100.200", "fd00:ec2::254",
        "169.254.169.254.",
    ],
)  # fmt: skip
def test_no_spelling_of_a_metadata_or_multicast_or_unspecified_address_gets_through(
    host: str,
) -> None:
    with pytest.raises(TransportFailed):
        resolve(AddressGuard(), host)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "::1", "[::1]", "10.1.2.3", "192.168.0.9", "8.8.8.8"]
)
def test_loopback_private_and_public_addresses_are_allowed_by_default(host: str) -> None:
    assert resolve(AddressGuard(), host) == [(host.strip("[]"), 9080)]


def test_the_error_names_the_address_and_the_setting() -> None:
    with pytest.raises(TransportFailed) as caught:
        resolve(AddressGuard(deny=("10.0.0.0/8",)), "10.1.2.3")
    assert str(caught.value) == "'10.1.2.3' is refused by the setting 'deployments.deny'"
    with pytest.raises(TransportFailed) as caught:
        resolve(AddressGuard(allow=("10.0.0.0/8",)), "127.0.0.1")
    assert str(caught.value) == "'127.0.0.1' is not in the list of the setting 'deployments.allow'"
    with pytest.raises(TransportFailed, match=r"link-local.*deployments\.allow"):
        resolve(AddressGuard(), "169.254.1.1")


def test_a_denied_range_cannot_be_reached_through_ipv6() -> None:
    guard = AddressGuard(deny=("127.0.0.0/8",))
    for host in ("127.0.0.1", "::ffff:127.0.0.1", "2130706433", "0x7f.1", "64:ff9b::7f00:1"):
        with pytest.raises(TransportFailed):
            resolve(guard, host)


def test_deny_wins_over_allow() -> None:
    guard = AddressGuard(allow=("10.0.0.0/8",), deny=("10.9.0.0/16",))
    assert resolve(guard, "10.1.1.1")
    with pytest.raises(TransportFailed):
        resolve(guard, "10.9.1.1")


def test_a_range_in_the_allow_list_permits_what_is_refused_by_default_and_a_name_does_not() -> None:
    assert resolve(AddressGuard(allow=("169.254.7.0/24",)), "169.254.7.7")
    guard = AddressGuard(allow=("metadata.example",))
    assert guard.refusal("metadata.example", "169.254.169.254") is not None
    assert guard.refusal("metadata.example", "10.0.0.1") is None


@pytest.mark.parametrize(
    ("pattern", "host", "allowed"),
    [
        ("app.example", "app.example", True),
        ("app.example", "APP.example.", True),
        ("app.example", "x.app.example", False),
        (".example", "app.example", True),
        ("*.example", "a.b.example", True),
        (".example", "example", False),
        (".example", "notexample", False),
    ],
)
def test_names_match_exactly_and_suffixes_below(pattern: str, host: str, allowed: bool) -> None:
    assert (AddressGuard(allow=(pattern,)).refusal(host, "10.0.0.1") is None) == allowed
    assert (AddressGuard(deny=(pattern,)).refusal(host, "10.0.0.1") is None) == (not allowed)


@pytest.mark.parametrize("entry", ["", "10.0.0.1/8", "10.0.0", "http://x", "a b", "*", "."])
def test_an_entry_that_is_neither_range_nor_name_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="neither a range"):
        AddressGuard(allow=(entry,))


Found = list[tuple[Any, ...]]


def resolver(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], list[str]]) -> None:
    """The system's resolver, which nobody here may ask, answers what a name server of the enemy would."""

    def getaddrinfo(host: str, port: int, *rest: Any, **more: Any) -> Found:
        stream = socket.SOCK_STREAM
        return [
            (socket.AF_INET6 if ":" in ip else socket.AF_INET, stream, 6, "", (ip, port))
            for ip in answer()
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_only_the_allowed_addresses_of_a_name_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver(monkeypatch, lambda: ["169.254.169.254", "10.0.0.1", "::ffff:169.254.169.254"])
    assert resolve(AddressGuard(), "app.example") == [("10.0.0.1", 9080)]


def test_a_name_that_resolves_anew_is_looked_at_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([["10.0.0.1"], ["169.254.169.254"]])
    resolver(monkeypatch, lambda: next(answers))
    guard = AddressGuard()
    assert resolve(guard, "rebinding.example") == [("10.0.0.1", 9080)]
    with pytest.raises(TransportFailed, match=r"rebinding\.example.*169\.254\.169\.254"):
        resolve(guard, "rebinding.example")


def test_a_name_without_an_address_says_so() -> None:
    with pytest.raises(TransportFailed, match="cannot resolve"):
        resolve(AddressGuard(), "no-such-host.invalid")
