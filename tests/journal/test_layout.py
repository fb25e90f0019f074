"""Which directory is the store of which partition, and what is refused."""

import asyncio
from pathlib import Path

import pytest

from perdure.journal.errors import StoreDamaged, StoreFormat
from perdure.journal.layout import (
    Layout,
    check_count,
    directory_of,
    find_layout,
    partition_directories,
    prepare_partitions,
    stores_of,
    unprepare_partitions,
    write_layout,
)
from tests.journal.stores import open_small

FIRST, LAST = b"\x00" * 24, b"\xff" * 24


def _create(store: Path) -> None:
    asyncio.run(open_small(store).close())


def test_one_partition_is_the_data_directory_itself(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert prepare_partitions(data, 1) == [data]
    assert not data.exists(), "the store makes it"
    _create(data)
    assert find_layout(data) == Layout(1)
    assert directory_of(data, LAST) == data


def test_several_partitions_are_numbered_directories(tmp_path: Path) -> None:
    names = ["partition-000", "partition-001", "partition-002"]
    assert prepare_partitions(tmp_path, 3) == [tmp_path / name for name in names]
    assert (tmp_path / "PARTITIONS").read_bytes() == b'{"count":3,"generation":1,"version":1}'
    for path in partition_directories(tmp_path, 3):
        _create(path)
    assert directory_of(tmp_path, FIRST).name == names[0]
    assert directory_of(tmp_path, LAST).name == names[2]


def test_directories_that_were_prepared_in_vain_are_gone_but_no_store_ever_is(
    tmp_path: Path,
) -> None:
    prepare_partitions(tmp_path, 2)
    unprepare_partitions(tmp_path, 2)
    assert list(tmp_path.iterdir()) == []
    _create(prepare_partitions(tmp_path, 2)[1])
    unprepare_partitions(tmp_path, 2)
    assert find_layout(tmp_path) == Layout(2, 1)
    assert (tmp_path / "partition-001" / "FORMAT").exists()


def test_a_later_generation_is_a_directory_of_its_own(tmp_path: Path) -> None:
    write_layout(tmp_path, Layout(2, 7))
    assert stores_of(tmp_path) == [
        tmp_path / "generation-7" / name for name in ("partition-000", "partition-001")
    ]


@pytest.mark.parametrize(("there", "asked"), [(1, 4), (4, 1), (4, 8)])
def test_another_count_is_refused_with_the_command_to_run(
    tmp_path: Path, there: int, asked: int
) -> None:
    for store in prepare_partitions(tmp_path, there):
        _create(store)
    command = f"perdure repartition --data {tmp_path} --partitions {asked}"
    for refuse in (check_count, partition_directories, prepare_partitions):
        with pytest.raises(StoreFormat, match=command):
            refuse(tmp_path, asked)
    check_count(tmp_path, there)


def test_a_partition_that_is_gone_is_damage_and_not_made_anew(tmp_path: Path) -> None:
    prepare_partitions(tmp_path, 2)[1].rmdir()
    with pytest.raises(StoreDamaged, match="partition-001 is missing"):
        prepare_partitions(tmp_path, 2)


def test_partitions_without_the_file_that_counts_them_are_refused(tmp_path: Path) -> None:
    for store in prepare_partitions(tmp_path, 2):
        _create(store)
    (tmp_path / "PARTITIONS").unlink()
    with pytest.raises(StoreFormat, match="put PARTITIONS back"):
        prepare_partitions(tmp_path, 2)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"count":2}garbage', "cannot be read"),
        (b'{"count":2,"generation":1,"version":2}', "newer release"),
        (b'{"count":65,"generation":1,"version":1}', "1 to 64"),
        (b'{"count":2,"generation":0,"version":1}', "generation"),
    ],
)
def test_a_file_that_cannot_be_understood_is_refused(
    tmp_path: Path, content: bytes, told: str
) -> None:
    (tmp_path / "PARTITIONS").write_bytes(content)
    with pytest.raises(StoreFormat, match=told):
        find_layout(tmp_path)


def test_no_store_is_made_in_a_partitioned_directory(tmp_path: Path) -> None:
    prepare_partitions(tmp_path, 2)
    with pytest.raises(StoreFormat, match="found PARTITIONS"):
        open_small(tmp_path)


def test_no_store_is_made_where_a_partition_used_to_be(tmp_path: Path) -> None:
    old = prepare_partitions(tmp_path, 2)
    write_layout(tmp_path, Layout(2, 2))
    with pytest.raises(StoreFormat, match="not a partition of"):
        open_small(old[0])
    for store in stores_of(tmp_path):
        _create(store)
