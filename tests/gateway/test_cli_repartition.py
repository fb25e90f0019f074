"""`perdure repartition`, and the commands that read the files of a stopped server with several partitions."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from perdure.gateway.cli import main
from perdure.journal import keys
from perdure.journal.layout import find_layout, prepare_partitions, stores_of
from tests.gateway import shop
from tests.gateway.real import real
from tests.gateway.test_cli_replay import FILE, ended
from tests.journal.stores import open_small, put

OK, FAILED, USAGE, NOT_FOUND = 0, 1, 2, 4


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def repartition(data: Path, count: int, *more: str) -> Result:
    return run("repartition", "--data", str(data), "--partitions", str(count), *more)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A data directory and what was invoked there."""
    data = tmp_path_factory.mktemp("served") / "data"
    with real(shop.app, data) as on:
        return data, [ended(on, f"Shop/{name}/order", "3") for name in ("ada", "bob", "eve")]


def test_it_tells_before_and_after_what_is_where(served: tuple[Path, list[str]]) -> None:
    data, _ = served
    before = find_layout(data)
    dry = repartition(data, 3, "--dry-run")
    assert dry.exit_code == OK, dry.output
    assert "Nothing was changed" in dry.output
    assert find_layout(data) == before
    done = repartition(data, 3)
    assert done.exit_code == OK, done.output
    assert "has 3 partitions now, verified row by row" in done.output
    assert "21846 to 43690" in done.output
    again = repartition(data, 3)
    assert again.exit_code == OK
    assert "has 3 partitions already" in again.output


def test_a_terminal_sees_how_far_it_is(served: tuple[Path, list[str]]) -> None:
    data, _ = served
    count = 6 if len(stores_of(data)) != 6 else 3
    command = ["repartition", "--data", str(data), "--partitions", str(count)]
    result = CliRunner().invoke(main, command, env={"FORCE_COLOR": "1", "TERM": "xterm"})
    assert result.exit_code == OK, result.output
    assert "Removing the old partitions" in result.stderr


def test_its_answer_for_machines_adds_up(served: tuple[Path, list[str]]) -> None:
    data, _ = served
    would = json.loads(repartition(data, 5, "--dry-run", "--json").stdout)
    did = json.loads(repartition(data, 5, "--json").stdout)
    assert (would["switched"], did["switched"]) == (False, True)
    assert would["moves"] == did["moves"]
    assert did["new_count"] == len(stores_of(data)) == 5
    doctor = json.loads(run("doctor", str(data), "--json").stdout)
    rows = [
        sum(table["rows"] for name, table in partition["tables"].items() if name != "meta")
        for partition in doctor["partitions"]
    ]
    moved = [sum(m["rows"] for m in did["moves"] if m["target"] == n) for n in range(5)]
    assert rows == moved


def test_doctor_looks_at_every_partition(served: tuple[Path, list[str]]) -> None:
    data, _ = served
    repartition(data, 4)
    found = run("doctor", str(data))
    assert found.exit_code == OK, found.output
    assert found.output.count("The store is sound.") == 4
    (data / "generation-99.new").mkdir()
    left = run("doctor", str(data))
    assert "generation-99.new is left from a repartitioning" in left.output
    assert "Removed" in repartition(data, 4).output
    assert "is left from" not in run("doctor", str(data)).output


def test_doctor_finds_damage_in_any_partition(served: tuple[Path, list[str]]) -> None:
    data, _ = served
    repartition(data, 2)
    current = stores_of(data)[1] / "db" / "CURRENT"
    content = current.read_bytes()
    current.unlink()
    found = run("doctor", str(data))
    assert found.exit_code == FAILED
    assert "PROBLEM: " in found.output
    current.write_bytes(content)


def test_doctor_finds_a_row_in_the_wrong_partition(tmp_path: Path) -> None:
    async def put_astray() -> None:
        stores = prepare_partitions(tmp_path, 2)
        for store in map(open_small, stores):
            await put(store, (keys.active(b"\xff" * 24), b""))
            await store.close()

    asyncio.run(put_astray())
    found = run("doctor", str(tmp_path))
    assert found.exit_code == FAILED
    assert found.output.count("it belongs to partition 1") == 1


def test_an_invocation_is_replayed_from_whichever_partition_has_it(
    served: tuple[Path, list[str]],
) -> None:
    data, invocations = served
    for count in (7, 1):
        repartition(data, count)
        for id in invocations:
            result = run("replay", id, FILE, "--data", str(data))
            assert result.exit_code == OK, result.output
            assert "ended as recorded" in result.output


def test_what_cannot_be_done_says_why(tmp_path: Path) -> None:
    assert repartition(tmp_path / "none", 2).exit_code == NOT_FOUND
    nothing = repartition(tmp_path, 2)
    assert nothing.exit_code == FAILED
    assert "found none" in nothing.output
    assert repartition(tmp_path, 65).exit_code == USAGE
    with real(shop.app, tmp_path / "data"):
        busy = repartition(tmp_path / "data", 2)
    assert busy.exit_code == FAILED
    assert "is in use by process" in busy.output


def test_a_server_of_one_process_does_not_start_on_several_partitions(tmp_path: Path) -> None:
    prepare_partitions(tmp_path, 4)
    refused = run("up", FILE, "--data", str(tmp_path), "--ingress", "127.0.0.1:0")
    assert refused.exit_code == FAILED
    assert f"perdure repartition --data {tmp_path} --partitions 1" in refused.output
