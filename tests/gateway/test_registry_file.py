"""The registry's file: what docs/registry-format.md says, and what happens to a file that is not so."""

import struct
import zlib
from pathlib import Path

import msgspec
import pytest

from perdure.gateway.registry_file import (
    DeploymentRecord,
    RegistryFile,
    RegistryRecord,
    ServicePatch,
    ServiceRecord,
)
from perdure.journal.errors import StoreDamaged, StoreError, StoreFormat
from perdure.journal.schema import ServiceType

ID = "dp_112XBPqvqYyCh2R0PbHFZSN"
RECORD = RegistryRecord(
    (
        DeploymentRecord(
            ID,
            "http://127.0.0.1:9080/",
            False,
            "HTTP/1.1",
            (("x-a", "b"),),
            {"team": "a"},
            1_800_000_000_000,
            5,
            7,
            "sdk/1",
            (
                ServiceRecord("S", ServiceType.WORKFLOW, 3, b'{"name":"S"}'),
                ServiceRecord("T", ServiceType.SERVICE, patch=ServicePatch(public=False)),
            ),
        ),
    )
)


def test_no_file_is_an_empty_registry(tmp_path: Path) -> None:
    assert RegistryFile(tmp_path).read() == RegistryRecord()
    assert RegistryFile(tmp_path / "not" / "there").read() == RegistryRecord()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    file = RegistryFile(tmp_path)
    file.write(RECORD)
    file.write(RECORD)
    assert file.read() == RECORD
    assert [each.name for each in tmp_path.iterdir()] == ["registry.msgpack"]
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_the_bytes_are_those_of_the_document(tmp_path: Path) -> None:
    file = RegistryFile(tmp_path)
    file.write(RECORD)
    content = file.path.read_bytes()
    assert content[:8] == b"PERDUREG"
    version, checksum = struct.unpack(">II", content[8:16])
    assert (version, checksum) == (1, zlib.crc32(content[16:]))
    (deployment,) = msgspec.msgpack.decode(content[16:])["deployments"]
    assert list(deployment) == [
        "id", "uri", "bidi", "http_version", "headers", "metadata", "created_at_ms", "oldest", "newest",
        "sdk_version", "services",
    ]  # fmt: skip
    assert deployment["headers"] == [["x-a", "b"]]
    first, second = deployment["services"]
    assert first == {
        "name": "S", "type": "Workflow", "revision": 3, "manifest": b'{"name":"S"}', "patch": None,
    }  # fmt: skip
    assert second["patch"] == {"public": False}


def write(file: RegistryFile, body: bytes, version: int = 1) -> None:
    file.path.write_bytes(struct.pack(">8sII", b"PERDUREG", version, zlib.crc32(body)) + body)


def test_keys_that_are_not_known_are_passed_over_and_missing_ones_have_defaults(
    tmp_path: Path,
) -> None:
    file = RegistryFile(tmp_path)
    deployment = {"id": ID, "uri": "http://a/", "later": [1]}
    write(file, msgspec.msgpack.encode({"deployments": [deployment], "newer": {}}))
    assert file.read() == RegistryRecord((DeploymentRecord(ID, "http://a/"),))


def test_every_truncation_and_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    file = RegistryFile(tmp_path)
    file.write(RECORD)
    content = file.path.read_bytes()
    for size in range(len(content)):
        file.path.write_bytes(content[:size])
        with pytest.raises(StoreDamaged):
            file.read()
    for index in range(len(content)):
        broken = bytearray(content)
        broken[index] ^= 0x40
        file.path.write_bytes(broken)
        with pytest.raises(StoreError):
            file.read()
        assert file.path.read_bytes() == broken


def test_the_error_says_what_to_do(tmp_path: Path) -> None:
    file = RegistryFile(tmp_path)
    file.path.write_bytes(b"")
    with pytest.raises(
        StoreDamaged, match=r"registry\.msgpack is damaged: .*Restore it from a backup"
    ):
        file.read()
    write(file, b"\x80", version=2)
    with pytest.raises(StoreFormat, match="has format 2, this release reads format 1; start the"):
        file.read()
    write(file, msgspec.msgpack.encode({"deployments": 1}))
    with pytest.raises(StoreDamaged, match="is damaged"):
        file.read()


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    file = RegistryFile(tmp_path)
    file.write(RECORD)
    (tmp_path / "registry.msgpack.tmp").mkdir()
    with pytest.raises(StoreError, match="cannot be written"):
        file.write(RegistryRecord())
    assert file.read() == RECORD


def test_what_a_crash_left_of_a_write_is_not_read(tmp_path: Path) -> None:
    file = RegistryFile(tmp_path)
    file.write(RECORD)
    (tmp_path / "registry.msgpack.tmp").write_bytes(b"half")
    assert file.read() == RECORD
    file.write(RegistryRecord())
    assert file.read() == RegistryRecord()
