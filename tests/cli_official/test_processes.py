"""The official tool on a server of several processes: what one command needs of all partitions.

The other files run against such a server, too, with PERDURE_SYSTEM=processes and PERDURE_PARTITIONS=2 in the
environment.
"""

import json

from tests.cli_official.conftest import Restate
from tests.gateway.sql.conftest import Filled, send

SERVER_FLAGS = ("--system", "processes", "--partitions", "2")  # read by the fixture ``filled``
KEYS = tuple("abcdefgh")  # of both partitions
OWNERS = """select distinct p.partition_id as n from sys_keyed_service_status s
    join partitions p on s.partition_key between p.start_key and p.end_key
    where s.service_key like 'several-%' order by n"""


def test_the_list_shows_the_invocations_of_every_partition(
    filled: Filled, restate: Restate
) -> None:
    said = restate("invocations", "list", "--all").said
    assert {name for name, id in filled.ids.items() if id in said} == set(filled.ids)


def test_one_command_cancels_in_every_partition(filled: Filled, restate: Restate) -> None:
    url = filled.server.ingress_url
    ids = [send(url, f"Box/several-{key}/hold") for key in KEYS]
    held = "select count(*) as n from sys_invocation where status = 'running'"
    filled.await_rows(held + " and target_handler_name = 'hold'", [{"n": len(ids) + 1}])
    assert filled.rows(OWNERS) == [{"n": 0}, {"n": 1}]  # else the keys show nothing
    said = restate("invocations", "cancel", "-y", "Box").said
    assert all(id in said for id in ids)
    failed = "select count(*) as n from sys_invocation where target_handler_name = 'hold'"
    filled.await_rows(failed + " and completion_result = 'failure'", [{"n": len(ids) + 1}])


def test_state_of_every_partition_is_read_and_patched(filled: Filled, restate: Restate) -> None:
    for key in KEYS:
        send(filled.server.ingress_url, f"Box/patched-{key}/put", key)
    query = "select count(*) as n from state where service_key like 'patched-%' and key = 'value'"
    filled.await_rows(query, [{"n": len(KEYS)}])
    patch = '[{"op": "replace", "path": "/value", "value": "Im5ldyI="}]'
    for key in KEYS:
        said = restate("kv", "patch", "Box", f"patched-{key}", "-p", patch, "--binary", "-y").said
        assert "Successfully submitted state update." in said
    filled.await_rows(query + " and value_utf8 = '\"new\"'", [{"n": len(KEYS)}])


def test_sql_joins_rows_with_their_partitions(restate: Restate) -> None:
    rows = json.loads(restate("sql", "--json", "select partition_id, state from partitions").stdout)
    assert rows == [{"partition_id": index, "state": "up"} for index in range(2)]
