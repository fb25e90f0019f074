"""Connections: how they come about, how many there are, TLS, and that none is left."""

import asyncio
import datetime
import gc
import ipaddress
import os
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from h2.events import ConnectionTerminated, RequestReceived, SettingsAcknowledged
from h2.settings import SettingCodes

from perdure.actors.remote.http2_options import Http2Options
from perdure.actors.remote.http2_pool import Http2Transport
from perdure.actors.remote.origin import origin_of
from perdure.actors.remote.port import TransportFailed
from tests.actors.remote.http2_peers import (
    QUICK,
    Ear,
    echo,
    hypercorn,
    peers,
    request,
    run,
    transport_to,
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for localhost that is signed by itself: its file and the key's."""
    folder: Path = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")


def open_sockets() -> int:
    gc.collect()
    return sum(
        os.readlink(f"/proc/self/fd/{each}").startswith("socket:")
        for each in os.listdir("/proc/self/fd")
        if os.path.islink(f"/proc/self/fd/{each}")
    )


def test_origins_of_uris() -> None:
    assert origin_of("http://Host/path").authority == "host"
    assert origin_of("http://host:80").authority == "host"
    assert origin_of("https://host:9080/a").authority == "host:9080"
    assert origin_of("https://host").port == 443
    assert origin_of("http://[::1]:90").host == "::1"
    assert origin_of("http://[::1]:90").authority == "[::1]:90"
    assert origin_of("http://user:pw@host:90").uri == "http://host:90"
    for bad in ("ftp://host", "http://", "host:80", "http://host:99999"):
        with pytest.raises(ValueError):  # noqa: PT011
            origin_of(bad)


def test_tls_with_a_trusted_certificate(certificate: tuple[str, str]) -> None:
    async def scenario() -> None:
        tls = ssl.create_default_context(cafile=certificate[0])
        async with (
            hypercorn(echo, certificate) as port,
            transport_to(port, "https", "localhost", tls=tls) as transport,
        ):
            ear = Ear()
            stream = transport.open(request(), ear)
            stream.write(b"secret")
            stream.close_input()
            await ear.over()
            assert (bytes(ear.body), ear.headers["x-scheme"]) == (b"secret", "https")

    run(scenario)


def test_an_untrusted_certificate_is_refused(certificate: tuple[str, str]) -> None:
    async def scenario() -> None:
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(*certificate)
        async with (
            peers(ssl=server) as listening,
            transport_to(listening.port, "https", "localhost") as transport,
        ):
            ear = Ear()
            transport.open(request(), ear)
            assert "certificate" in (await ear.failed()).lower()

    run(scenario)


@pytest.mark.parametrize("offered", [["http/1.1"], []])
def test_a_tls_peer_without_http2_is_told_apart(
    certificate: tuple[str, str], offered: list[str]
) -> None:
    async def scenario() -> None:
        server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        server.load_cert_chain(*certificate)
        if offered:
            server.set_alpn_protocols(offered)
        tls = ssl.create_default_context(cafile=certificate[0])
        async with (
            peers(ssl=server) as listening,
            transport_to(listening.port, "https", "localhost", tls=tls) as transport,
        ):
            ear = Ear()
            transport.open(request(), ear)
            assert "use_http_11" in await ear.failed()

    run(scenario)


def test_a_cleartext_peer_without_http2_is_told_apart() -> None:
    async def scenario() -> None:
        async with (
            peers(greets=False) as listening,
            transport_to(listening.port) as transport,
        ):
            ear = Ear()
            transport.open(request(), ear)
            peer = await listening.first()
            peer.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            assert "use_http_11" in await ear.failed()

    run(scenario)


@pytest.mark.parametrize(
    "answer", [b"\x16\x03\x01\x00garbage" * 10, b"\0\0\0\1\4\0\0\0\1", b"SSH-2.0\r\n"]
)
def test_garbage_instead_of_http2_fails_what_waits(answer: bytes) -> None:
    async def scenario() -> None:
        async with (
            peers(greets=False) as listening,
            transport_to(listening.port) as transport,
        ):
            ears = [Ear(), Ear()]
            for ear in ears:
                transport.open(request(), ear)
            peer = await listening.first()
            peer.transport.write(answer)
            for ear in ears:
                assert "broke HTTP/2" in await ear.failed()

    run(scenario)


def test_a_peer_that_accepts_and_says_nothing_fails_within_the_connect_timeout() -> None:
    async def scenario() -> None:
        async with (
            peers(greets=False) as listening,
            transport_to(listening.port, options=QUICK) as transport,
        ):
            ear = Ear()
            transport.open(request(), ear)
            assert "0.2 seconds" in await ear.failed()
            peer = await listening.first()
            await peer.lost.wait()

    run(scenario)


def test_a_refused_connection_fails_and_the_next_open_tries_again() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            port = reserved.getsockname()[1]
        async with transport_to(port) as transport:
            for _ in range(2):
                ear = Ear()
                stream = transport.open(request(), ear)
                stream.write(b"x")
                assert ear.calls == []
                assert "cannot connect" in await ear.failed()

    run(scenario)


def test_exactly_the_resolved_addresses_are_tried_in_their_order() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as reserved:
            closed = reserved.getsockname()[1]
        async with peers() as listening:
            asked: list[tuple[str, int]] = []

            async def resolve(host: str, port: int) -> list[tuple[str, int]]:
                asked.append((host, port))
                return [("127.0.0.1", closed), ("127.0.0.1", listening.port)]

            transport = Http2Transport("http://deployment.invalid:7777/x", resolve=resolve)
            ear = Ear()
            transport.open(request(), ear)
            peer = await listening.heard(RequestReceived)
            assert asked == [("deployment.invalid", 7777)]
            headers = dict(peer.heard(RequestReceived)[0].headers)
            assert headers[b":authority"] == b"deployment.invalid:7777"
            await transport.close()

    run(scenario)


def test_what_the_guard_forbids_fails_with_its_words() -> None:
    async def forbid(host: str, port: int) -> list[tuple[str, int]]:
        raise TransportFailed(f"{host} is a private address")

    async def nowhere(host: str, port: int) -> list[tuple[str, int]]:
        return []

    async def breaks(host: str, port: int) -> list[tuple[str, int]]:
        raise KeyError("broken")

    async def scenario() -> None:
        cases = ((forbid, "a private address"), (nowhere, "no address"), (breaks, "broken"))
        for resolve, words in cases:
            async with transport_to(1, resolve=resolve) as transport:
                ear = Ear()
                transport.open(request(), ear)
                assert words in await ear.failed()

    run(scenario)


def test_an_unknown_host_fails() -> None:
    async def scenario() -> None:
        async with transport_to(1, host="a" * 70 + ".invalid") as transport:
            ear = Ear()
            transport.open(request(), ear)
            assert "cannot resolve" in await ear.failed()

    run(scenario)


def test_further_connections_are_made_up_to_the_limit_and_then_streams_wait() -> None:
    async def scenario() -> None:
        two: dict[SettingCodes, int] = {SettingCodes.MAX_CONCURRENT_STREAMS: 2}
        options = Http2Options(max_connections=2, max_streams=2)
        async with (
            peers(two) as listening,
            transport_to(listening.port, options=options) as transport,
        ):
            ears = [Ear() for _ in range(5)]
            for number, ear in enumerate(ears):
                transport.open(request(f"/{number}"), ear)
            first = await listening.heard(RequestReceived, 3)
            second = await listening.heard(RequestReceived, 3, index=1)
            assert len(listening.connections) == 2
            second.head(3, end=True)  # its room goes to the one that waits
            await second.until(lambda p: bool(p.heard(RequestReceived, 5)))
            assert dict(second.heard(RequestReceived, 5)[0].headers)[b":path"] == b"/4"
            assert len(first.heard(RequestReceived)) == 2

    run(scenario)


def test_a_peer_that_allows_fewer_streams_gets_more_connections() -> None:
    async def scenario() -> None:
        one: dict[SettingCodes, int] = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}
        async with peers(one) as listening, transport_to(listening.port) as transport:
            for _ in range(3):
                transport.open(request(), Ear())
            await listening.heard(RequestReceived, index=2)

    run(scenario)


def test_a_connection_retires_after_so_many_requests() -> None:
    async def scenario() -> None:
        options = Http2Options(max_requests=2, max_connections=1)
        async with (
            peers() as listening,
            transport_to(listening.port, options=options) as transport,
        ):
            for _ in range(3):
                transport.open(request(), Ear()).close_input()
            first = await listening.heard(RequestReceived, 3)
            await listening.heard(RequestReceived, 1, index=1)
            for stream_id in (1, 3):
                first.head(stream_id, end=True)
            await first.lost.wait()

    run(scenario)


def test_a_server_that_ends_its_connections_after_a_thousand_requests_breaks_none() -> None:
    async def scenario() -> None:
        async with hypercorn(echo) as port, transport_to(port) as transport:
            for _ in range(24):
                ears = [Ear() for _ in range(90)]
                for ear in ears:
                    transport.open(request(), ear).close_input()
                for ear in ears:
                    await ear.over()
                    assert ear.failure is None

    run(scenario)


def test_an_idle_connection_is_let_go() -> None:
    async def scenario() -> None:
        options = Http2Options(idle_timeout_s=0.05)
        async with (
            peers() as listening,
            transport_to(listening.port, options=options) as transport,
        ):
            ear = Ear()
            transport.open(request(), ear).close_input()
            peer = await listening.heard(RequestReceived)
            peer.head(1, end=True)
            await ear.over()
            await peer.lost.wait()
            assert peer.heard(ConnectionTerminated)
            again = Ear()
            transport.open(request(), again)
            await listening.heard(RequestReceived, index=1)

    run(scenario)


def test_a_lost_connection_is_replaced_for_those_who_wait() -> None:
    async def scenario() -> None:
        one: dict[SettingCodes, int] = {SettingCodes.MAX_CONCURRENT_STREAMS: 1}
        options = Http2Options(max_connections=1)
        async with (
            peers(one) as listening,
            transport_to(listening.port, options=options) as transport,
        ):
            lost, waits = Ear(), Ear()
            transport.open(request(), lost)
            transport.open(request(), waits)
            peer = await listening.heard(RequestReceived)
            peer.transport.abort()
            await lost.failed()
            other = await listening.heard(RequestReceived, index=1)
            other.head(1, end=True)
            await waits.over()
            assert waits.ended

    run(scenario)


def test_a_peer_that_lets_nobody_begin_and_hangs_up_fails_those_who_wait() -> None:
    async def scenario() -> None:
        none: dict[SettingCodes, int] = {SettingCodes.MAX_CONCURRENT_STREAMS: 0}
        options = Http2Options(max_connections=1)
        async with (
            peers(none) as listening,
            transport_to(listening.port, options=options) as transport,
        ):
            ear = Ear()
            transport.open(request(), ear)
            peer = await listening.heard(SettingsAcknowledged)
            peer.transport.close()
            assert "closed by the peer" in await ear.failed()
            assert len(listening.connections) == 1

    run(scenario)


def test_many_who_wait_all_fail_when_the_peer_hangs_up_on_every_connection() -> None:
    async def scenario() -> None:
        async with peers(greets=False) as listening, transport_to(listening.port) as transport:
            ears = [Ear() for _ in range(300)]
            for ear in ears:
                transport.open(request(), ear)
            for index in range(3):
                (await listening.first(index)).transport.close()
            for ear in ears:
                assert "the connection was" in await ear.failed()  # closed or reset
            assert len(listening.connections) == 3

    run(scenario)


def test_close_leaves_no_task_and_no_socket() -> None:
    async def scenario() -> None:
        before = open_sockets()
        async with peers() as listening, peers(greets=False) as mute:
            idle, busy = (Http2Transport(f"http://127.0.0.1:{listening.port}") for _ in range(2))
            connecting = Http2Transport(f"http://127.0.0.1:{mute.port}")
            ears = [Ear(), Ear(), Ear()]
            transports = (idle, busy, connecting)
            streams = [
                each.open(request(), ear) for each, ear in zip(transports, ears, strict=True)
            ]
            peer = await listening.heard(RequestReceived)
            (await listening.heard(RequestReceived, index=1)).head(1)
            peer.head(1, end=True)
            await mute.first()
            streams[1].write(b"x" * 10_000_000)
            for each in transports:
                await each.close()
                await each.close()
            heard = [list(ear.calls) for ear in ears]
            late = Ear()
            busy.open(request(), late)
            assert "closed" in await late.failed()
            for gone in (*listening.connections, *mute.connections):
                await gone.lost.wait()
            assert [ear.calls for ear in ears] == heard
        await asyncio.sleep(0)
        assert open_sockets() == before

    run(scenario)


def test_closing_cuts_a_peer_that_reads_no_more() -> None:
    async def scenario() -> None:
        options = Http2Options(close_timeout_s=0.1)
        async with peers() as listening:
            transport = Http2Transport(f"http://127.0.0.1:{listening.port}", options=options)
            stream = transport.open(request(), Ear())
            peer = await listening.heard(RequestReceived)
            peer.h2.increment_flow_control_window(2**30)
            peer.h2.increment_flow_control_window(2**30, 1)
            peer.flush()
            peer.transport.pause_reading()
            stream.write(b"x" * 50_000_000)
            while stream.buffered_bytes == 50_000_000:
                await asyncio.sleep(0)
            assert stream.buffered_bytes > 0  # sockets do not take so much
            await transport.close()

    run(scenario)
