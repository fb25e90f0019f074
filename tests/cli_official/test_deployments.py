"""Acceptance list of the official tool (cli 9): 2 and 9, deployments registered, listed and removed."""

from pathlib import Path

from tests.cli_official.conftest import Endpoint, Restate
from tests.gateway.sql.conftest import Filled

GREETER = """
import perdure

greeter = perdure.Service("Greeter")


@greeter.handler()
async def greet(ctx: perdure.Context, name: str) -> str:
    return name

{more}
app = perdure.app([greeter])
"""
LEAVE = """
@greeter.handler()
async def leave(ctx: perdure.Context, name: str) -> str:
    return name
"""

KEYED = GREETER.replace("perdure.Service", "perdure.VirtualObject").replace(
    "perdure.Context", "perdure.ObjectContext"
)


def program(path: Path, more: str = LEAVE) -> Path:
    path.write_text(GREETER.replace("{more}", more))
    return path


def deployment_id(filled: Filled, url: str) -> str:
    (row,) = filled.rows(f"select id from sys_deployment where endpoint = '{url}'")
    return str(row["id"])


def test_a_deployment_is_registered_again_and_by_force(
    filled: Filled, restate: Restate, tmp_path: Path
) -> None:
    with Endpoint(program(tmp_path / "both.py")) as endpoint:
        said = restate("dp", "register", endpoint.url, "-y").said
        assert "SERVICES THAT WILL BE ADDED" in said
        id = deployment_id(filled, endpoint.url)
        assert f"Deployment ID:  {id}" in said
        again = restate("dp", "register", endpoint.url, "-y").said
        assert f"Deployment already exists with id {id}" in again
        forced = restate("dp", "register", endpoint.url, "--force", "-y").said
        assert "SERVICES THAT WILL BE UPDATED" in forced
        port = endpoint.port
    with Endpoint(program(tmp_path / "one.py", ""), port) as endpoint:
        restate("dp", "register", endpoint.url, "--force", "-y")
        assert deployment_id(filled, endpoint.url) == id
    assert restate("dp", "remove", id, "--force", "-y").code == 0


def test_a_service_that_changes_its_type_needs_breaking(
    filled: Filled, restate: Restate, tmp_path: Path
) -> None:
    keyed = tmp_path / "keyed.py"
    keyed.write_text(KEYED.replace("{more}", ""))
    with (
        Endpoint(program(tmp_path / "both.py")) as old,
        Endpoint(keyed) as new,
    ):
        restate("dp", "register", old.url, "-y")
        refused = restate("dp", "register", new.url, "-y", code=1).said
        assert "Breaking changes detected" in refused
        restate("dp", "register", new.url, "--breaking", "-y")
        was, now = deployment_id(filled, old.url), deployment_id(filled, new.url)
        listed = restate("dp", "list", "--extra").said
        assert was in listed
        assert now in listed
        assert "Active" in listed
        assert "Drained" in listed
        assert now in restate("dp", "describe", now, "--extra").said
        assert "removed successfully" in restate("dp", "remove", was, "-y").said
        assert "still Active" in restate("dp", "remove", now, "-y", code=1).said
        restate("dp", "remove", now, "--force", "-y")
        where = f"id in ('{was}', '{now}')"
        assert filled.rows(f"select id from sys_deployment where {where}") == []


def test_an_endpoint_that_is_not_there(restate: Restate) -> None:
    assert "META0003" in restate("dp", "register", "http://127.0.0.1:1/", "-y", code=1).said
