"""`perdure invocations`: list, show, and operate on them."""

from typing import Any

import click

from perdure.actors.describe import STATUS_WORDS
from perdure.gateway import cli
from perdure.gateway.cli_http import (
    EPILOG,
    NOT_FOUND,
    admin,
    admin_option,
    error_text,
    json_of,
    json_option,
    request,
    segment,
    value_text,
    write_fields,
    write_json,
    write_table,
)
from perdure.gateway.timeline import clock


@click.group(epilog=EPILOG)
def invocations() -> None:
    """List, show, cancel, kill, pause, resume, restart and purge invocations."""


@invocations.command("list", epilog=EPILOG)
@click.option("--service", metavar="NAME")
@click.option("--handler", metavar="NAME")
@click.option("--key", metavar="KEY")
@click.option(
    "--status", type=click.Choice(STATUS_WORDS), metavar="STATUS",
    help=f"{', '.join(STATUS_WORDS)}. The last two are completed ones.",
)  # fmt: skip
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True)
@admin_option
@json_option
def list_(
    service: str | None,
    handler: str | None,
    key: str | None,
    status: str | None,
    limit: int,
    url: str,
    as_json: bool,
) -> None:
    """List invocations: those that are not over first, and of each the newest.

    Every given filter must match.
    """
    filters = {"service": service, "handler": handler, "key": key, "status": status}
    params = {name: value for name, value in filters.items() if value is not None}
    found = admin("GET", url, "/invocations", params=params | {"limit": str(limit)})
    if as_json:
        write_json(found)
        return
    write_table(
        ("ID", "TARGET", "STATUS", "CREATED", "ATTEMPTS", "REMARK"),
        (
            (
                each["id"],
                each["target"],
                each["status"],
                _moment(each["created_at"]),
                each["attempt_count"],
                _remark(each),
            )
            for each in found["invocations"]
        ),
        "No invocations match." if params else "There are no invocations.",
    )
    if len(found["invocations"]) == limit:
        click.echo(f"These are {limit}; there may be more: --limit, or a filter.", err=True)


def _moment(text: str) -> str:
    """To the second; the whole text is in `--json`."""
    return text[:19].replace("T", " ")


def _remark(info: dict[str, Any]) -> str:
    """The one thing that somebody who looks at a list wants to know of it."""
    failure = info.get("last_failure") or {}
    result = info.get("result") or {}
    remark = str(
        info.get("paused_reason")
        or (info["status"] == "backing-off" and failure.get("message"))
        or (result.get("failure") or {}).get("message")
        or info.get("awaiting", "")
    )
    return remark.partition("\n")[0]


@invocations.command(epilog=EPILOG)
@click.argument("invocation_id", metavar="ID")
@click.option("--journal", is_flag=True, help="Its journal as well.")
@admin_option
@json_option
def show(invocation_id: str, journal: bool, url: str, as_json: bool) -> None:
    """Show one invocation."""
    path = f"/invocations/{segment(invocation_id)}"
    info = admin("GET", url, path)
    entries = admin("GET", url, path + "/journal")["entries"] if journal else None
    if as_json:
        write_json(info if entries is None else info | {"journal": entries})
        return
    write_fields(_fields(info))
    if entries is not None:
        click.echo()
        write_table(
            ("INDEX", "AT", "TYPE", "NAME", "DETAILS"),
            (
                (
                    each["index"],
                    clock(each.get("at")),
                    each["type"],
                    each.get("name"),
                    _details(each),
                )
                for each in entries
            ),
            "The journal is empty.",
        )


def _fields(info: dict[str, Any]) -> dict[str, object]:
    shown = dict(info)
    for name in ("service", "handler", "key"):
        shown.pop(name, None)
    result = shown.pop("result", None)
    if result is not None:
        shown["result"] = _outcome(result)
    failure = shown.pop("last_failure", None)
    if failure is not None:
        shown["last_failure"] = f"{failure['message']} ({failure['code']})"
        if failure.get("related_command_type"):
            index, kind = failure.get("related_command_index"), failure["related_command_type"]
            shown["failed_at"] = f"command {index}: {kind} {failure['related_command_name']}"
    return shown


def _outcome(result: dict[str, Any]) -> str:
    if "failure" in result:
        return f"failure: {result['failure']['message']} ({result['failure']['code']})"
    return value_text(result["value"])


def _details(entry: dict[str, Any]) -> str:
    parts = []
    for name, value in entry.items():
        if name in ("index", "at", "type", "name", "headers"):
            continue
        parts.append(f"{name}={_detail(value)}")
    return " ".join(parts)


def _detail(value: Any) -> str:
    match value:
        case {"base64": _}:
            return value_text(value)
        case {"type": kind, "content": content}:
            return f"{kind} {_detail(content)}"
        case {"type": "failure", "code": code, "message": message}:
            return f"failure {message} ({code})"
        case {"type": kind, **fields}:
            return f"{kind} {' '.join(str(each) for each in fields.values())}".rstrip()
        case _:
            return str(value)


_deployment_option = click.option(
    "--deployment", metavar="WHERE", help="keep, latest, or the id of a deployment."
)


def _operation(verb: str, done: str, summary: str, later: str = "") -> None:
    @invocations.command(verb, epilog=EPILOG, help=summary)
    @click.argument("invocation_ids", nargs=-1, required=True, metavar="ID...")
    @admin_option
    @json_option
    def operate(invocation_ids: tuple[str, ...], url: str, as_json: bool) -> None:
        _report([_operate(url, verb, each, {}) for each in invocation_ids], done, as_json, later)


@invocations.command(epilog=EPILOG)
@click.argument("invocation_ids", nargs=-1, required=True, metavar="ID...")
@_deployment_option
@admin_option
@json_option
def resume(
    invocation_ids: tuple[str, ...], deployment: str | None, url: str, as_json: bool
) -> None:
    """Start paused ones again; skip the back-off of failing ones.

    What rests (paused, suspended) may go on in another deployment.
    """
    params = {} if deployment is None else {"deployment": deployment}
    outcomes = [_operate(url, "resume", each, params) for each in invocation_ids]
    _report(outcomes, "is resumed", as_json)


@invocations.command(epilog=EPILOG)
@click.argument("invocation_ids", nargs=-1, required=True, metavar="ID...")
@click.option(
    "--from", "from_index", type=click.IntRange(0), metavar="INDEX",
    help="Take the journal up to this entry over, in place of the input alone.",
)  # fmt: skip
@_deployment_option
@admin_option
@json_option
def restart(
    invocation_ids: tuple[str, ...],
    from_index: int | None,
    deployment: str | None,
    url: str,
    as_json: bool,
) -> None:
    """Run completed ones again, as new ones; without WHERE on the latest deployment."""
    given = {"from": from_index, "deployment": deployment}
    params = {name: str(value) for name, value in given.items() if value is not None}
    outcomes = [_operate(url, "restart-as-new", each, params) for each in invocation_ids]
    _report(outcomes, "is restarted", as_json)


def _report(outcomes: list[dict[str, Any]], done: str, as_json: bool, later: str = "") -> None:
    """Tell each outcome; exits with an error where one failed.

    ``later``: what is said of one that is not ``done`` yet.
    """
    later = later or f"{done} soon"
    if as_json:
        write_json(outcomes)
    for each in outcomes:
        if not as_json and each["ok"]:
            told = later if each["status"] == 202 else done
            new = f" as {each['new_invocation_id']}" if "new_invocation_id" in each else ""
            click.echo(f"{each['id']} {told}{new}")
        elif not as_json:
            click.echo(f"Error: {each['message']}", err=True)
    failed = [each["status"] for each in outcomes if not each["ok"]]
    if failed:
        are_missing = all(status == NOT_FOUND for status in failed)
        kind = cli.NotFound if are_missing else cli.Failure
        raise click.exceptions.Exit(kind.exit_code)


def _operate(url: str, verb: str, invocation_id: str, params: dict[str, str]) -> dict[str, Any]:
    path = f"/invocations/{segment(invocation_id)}/{verb}"
    response = request("PATCH", url, path, params=params)
    outcome: dict[str, Any] = {"id": invocation_id, "status": response.status_code}
    if response.is_success:
        return outcome | {"ok": True} | (json_of(response, url) or {})
    return outcome | {"ok": False, "message": error_text(response, url)}


_operation(
    "cancel",
    "is cancelled",
    "Ask them to stop; their handlers can compensate.",
    "hears of it where its handler next awaits ('kill' stops at once)",
)
_operation("kill", "is killed", "Stop them at once, without compensation.")
_operation("pause", "is paused", "Hold them until they are resumed.")
_operation("purge", "is purged", "Forget completed ones and their results.")
_operation("purge-journal", "has no journal now", "Forget the journals of completed ones.")
