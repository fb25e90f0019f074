"""`perdure deployments`: register endpoints of any SDK, list, show, update and remove them."""

import json
from typing import Any

import click

from perdure.gateway.cli import Failure
from perdure.gateway.cli_http import (
    EPILOG,
    admin,
    admin_option,
    json_option,
    segment,
    write_fields,
    write_json,
    write_table,
)


@click.group(epilog=EPILOG)
def deployments() -> None:
    """Register, list, show, update and remove deployments."""


@deployments.command("list", epilog=EPILOG)
@admin_option
@json_option
def list_(url: str, as_json: bool) -> None:
    """List the deployments and the services in them."""
    found = admin("GET", url, "/deployments")
    if as_json:
        write_json(found)
        return
    write_table(
        ("ID", "ADDRESS", "STATUS", "PROTOCOL", "CREATED", "SERVICES"),
        (
            (
                each["id"],
                each["uri"],
                each.get("status"),
                _protocol(each),
                _moment(each["created_at"]),
                _services(each),
            )
            for each in found["deployments"]
        ),
        "There are no deployments. Register one with 'perdure deployments register URI'.",
    )


@deployments.command(epilog=EPILOG)
@click.argument("uri", metavar="URI")
@click.option("--force", is_flag=True, help="Discover a known address again, in place.")
@click.option("--breaking", is_flag=True, help="A service may change its type.")
@click.option("--dry-run", is_flag=True, help="Discover and check; change nothing.")
@click.option(
    "--use-http1.1", "http1", is_flag=True, help="Call it over HTTP/1.1, request by request."
)
@click.option(
    "--header", "headers", multiple=True, metavar="NAME=VALUE",
    help="Sent with each request to it. May be repeated.",
)  # fmt: skip
@click.option(
    "--metadata", "metadata", multiple=True, metavar="NAME=VALUE",
    help="Kept with the deployment. May be repeated.",
)  # fmt: skip
@admin_option
@json_option
def register(
    uri: str,
    force: bool,
    breaking: bool,
    dry_run: bool,
    http1: bool,
    headers: tuple[str, ...],
    metadata: tuple[str, ...],
    url: str,
    as_json: bool,
) -> None:
    """Register the endpoint at URI, such as http://localhost:9080."""
    body: dict[str, object] = {
        "uri": _absolute(uri),
        "force": force,
        "breaking": breaking,
        "dry_run": dry_run,
        "use_http_11": http1,
    }
    if headers:
        body["additional_headers"] = _pairs(headers, "--header")
    if metadata:
        body["metadata"] = _pairs(metadata, "--metadata")
    found = admin("POST", url, "/deployments", content=json.dumps(body).encode())
    if as_json:
        write_json(found)
        return
    if dry_run:
        click.echo("Nothing was changed. A registration would give:")
    else:
        click.echo(found["id"])
    _write_services(found)


@deployments.command(epilog=EPILOG)
@click.argument("deployment_id", metavar="ID")
@admin_option
@json_option
def show(deployment_id: str, url: str, as_json: bool) -> None:
    """Show one deployment."""
    found = admin("GET", url, f"/deployments/{segment(deployment_id)}")
    _show(found, as_json)


@deployments.command(epilog=EPILOG)
@click.argument("deployment_id", metavar="ID")
@click.option("--uri", metavar="URI", help="Its new address.")
@click.option(
    "--header", "headers", multiple=True, metavar="NAME=VALUE",
    help="Sent with each request, in place of all that are set. May be repeated.",
)  # fmt: skip
@click.option("--use-http1.1/--use-http2", "http1", default=None, help="How to call it.")
@click.option("--overwrite", is_flag=True, help="Take over what it serves now.")
@click.option("--dry-run", is_flag=True, help="Discover and check; change nothing.")
@admin_option
@json_option
def update(
    deployment_id: str,
    uri: str | None,
    headers: tuple[str, ...],
    http1: bool | None,
    overwrite: bool,
    dry_run: bool,
    url: str,
    as_json: bool,
) -> None:
    """Change the address or the headers of a deployment; its invocations go on there."""
    body: dict[str, object] = {"overwrite": overwrite, "dry_run": dry_run}
    if uri is not None:
        body["uri"] = _absolute(uri)
    if headers:
        body["additional_headers"] = _pairs(headers, "--header")
    if http1 is not None:
        body["use_http_11"] = http1
    path = f"/deployments/{segment(deployment_id)}"
    _show(admin("PATCH", url, path, content=json.dumps(body).encode()), as_json)


@deployments.command(epilog=EPILOG)
@click.argument("deployment_id", metavar="ID")
@click.option("--force", is_flag=True, help="Even if new or unfinished invocations need it.")
@admin_option
def remove(deployment_id: str, force: bool, url: str) -> None:
    """Remove a deployment that is drained: nothing new goes there, nothing is unfinished there."""
    path = f"/deployments/{segment(deployment_id)}"
    if not force:
        status = admin("GET", url, path).get("status")
        if status != "drained":
            raise Failure(
                f"the deployment is {status}: new or unfinished invocations need it; wait until it is "
                "drained, or remove it with --force, which makes them fail until it is back"
            )
    admin("DELETE", url, path, params={"force": "true"})
    click.echo("removed")


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        write_json(found)
        return
    shown = {name: value for name, value in found.items() if name not in ("services", "info")}
    for name in ("additional_headers", "metadata"):
        pairs = shown.get(name)
        if pairs:
            shown[name] = ", ".join(f"{key}={value}" for key, value in pairs.items())
    write_fields(shown)
    click.echo()
    _write_services(found)


def _write_services(found: dict[str, Any]) -> None:
    write_table(
        ("SERVICE", "TYPE", "REVISION", "HANDLERS"),
        (
            (
                each["name"],
                each["ty"],
                each["revision"],
                ", ".join(handler["name"] for handler in each["handlers"]),
            )
            for each in sorted(found["services"], key=lambda each: str(each["name"]))
        ),
        "The deployment has no services.",
    )


def _absolute(uri: str) -> str:
    return uri if "://" in uri else f"http://{uri}"


def _pairs(given: tuple[str, ...], option: str) -> dict[str, str]:
    found = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals:
            raise click.UsageError(f"{option} expects NAME=VALUE, not '{each}'")
        found[name.strip()] = value
    return found


def _protocol(each: dict[str, Any]) -> str:
    return f"{each['protocol_type']} {each['http_version']}"


def _moment(text: str) -> str:
    return text[:19].replace("T", " ")


def _services(each: dict[str, Any]) -> str:
    return ", ".join(f"{service['name']} [{service['revision']}]" for service in each["services"])
