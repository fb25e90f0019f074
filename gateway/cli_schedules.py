"""`perdure schedules`: what runs by itself: list, show, create, pause, resume, trigger, backfill, delete."""

import json
from collections.abc import Mapping
from typing import Any, Final

import click

from perdure.gateway.cli_http import (
    EPILOG,
    admin,
    admin_option,
    json_option,
    segment,
    value_text,
    write_fields,
    write_json,
    write_table,
)

_Info = dict[str, Any]
_SHOWN_APART: Final = (
    "service",
    "handler",
    "key",
    "running",
    "counts",
    "backfills",
    "upcoming",
    "body",
)


@click.group(epilog=EPILOG)
def schedules() -> None:
    """List, show, create, pause, resume, trigger, backfill and delete schedules."""


@schedules.command("list", epilog=EPILOG)
@admin_option
@json_option
def list_(url: str, as_json: bool) -> None:
    """List all schedules."""
    found = admin("GET", url, "/schedules")
    if as_json:
        write_json(found)
        return
    write_table(
        ("NAME", "STATUS", "WHEN", "TARGET", "NEXT", "LAST", "RUNNING", "OK", "FAILED", "REMARK"),
        (
            (
                each["name"],
                each["status"],
                _when(each),
                each["target"],
                _moment(each.get("next_tick")),
                _moment(each.get("last_tick")),
                len(each["running"]),
                each["counts"]["succeeded"],
                each["counts"]["failed"],
                each.get("problem") or each.get("paused_reason", ""),
            )
            for each in found["schedules"]
        ),
        "There are no schedules. Create one with 'perdure schedules create NAME TARGET --cron ...'.",
    )


@schedules.command(epilog=EPILOG)
@click.argument("name", metavar="NAME")
@admin_option
@json_option
def show(name: str, url: str, as_json: bool) -> None:
    """Show one schedule, and when its next ticks are."""
    _write(admin("GET", url, _path(name)), as_json)


@schedules.command(epilog=EPILOG)
@click.argument("name", metavar="NAME")
@click.argument("target", metavar="SERVICE[/KEY]/HANDLER")
@click.argument("body", required=False, metavar="[JSON]")
@click.option("--cron", metavar="EXPRESSION", help="Such as '0 3 * * *' or '@daily'.")
@click.option("--every", metavar="DURATION", help="Such as '15m' or '1h 30m'.")
@click.option("--at", metavar="MOMENT", help="Once, such as 2026-12-24T18:00.")
@click.option(
    "--time-zone", metavar="ZONE", default="UTC", show_default=True,
    help="Of --cron and --at, such as Europe/Berlin.",
)  # fmt: skip
@click.option("--offset", metavar="DURATION", help="With --every: so much later.")
@click.option("--jitter", metavar="DURATION", help="Begin up to so much later.")
@click.option(
    "--overlap", type=click.Choice(["skip", "queue", "allow", "cancel"]), default="skip",
    show_default=True, help="What a tick does while an older one runs.",
)  # fmt: skip
@click.option(
    "--catch-up", metavar="DURATION", default="1d", show_default=True,
    help="Ticks that could not run in time still do, up to so much later.",
)  # fmt: skip
@click.option(
    "--header", "headers", multiple=True, metavar="NAME=VALUE", help="May be repeated."
)  # fmt: skip
@click.option(
    "--replace", is_flag=True, help="Change the schedule of this name, where there is one."
)
@admin_option
@json_option
def create(
    name: str,
    target: str,
    body: str | None,
    url: str,
    as_json: bool,
    headers: tuple[str, ...],
    replace: bool,
    **options: str | None,
) -> None:
    """Run SERVICE/HANDLER by itself, with JSON as its input.

    One of --cron, --every and --at says when. The key of an object is part of TARGET; that of a
    workflow is the beginning of its runs' keys.
    """
    document: dict[str, Any] = {
        **_target(target),
        "headers": dict(_header(each) for each in headers),
    }
    document |= {option: value for option, value in options.items() if value is not None}
    content = json.dumps(document)
    if body is not None:
        content = f'{content[:-1]}, "body": {_checked(body)}}}'
    if replace:
        made = admin("PUT", url, _path(name), content=content.encode())
    else:
        content = f'{{"name": {json.dumps(name)}, {content[1:]}'
        made = admin("POST", url, "/schedules", content=content.encode())
    _write(made, as_json)


@schedules.command(epilog=EPILOG)
@click.argument("name", metavar="NAME")
@click.option("--reason", metavar="TEXT", default="by an operator", show_default=True)
@admin_option
@json_option
def pause(name: str, reason: str, url: str, as_json: bool) -> None:
    """No tick begins anything until it is resumed; what runs goes on."""
    paused = admin("PATCH", url, _path(name, "pause"), params={"reason": reason})
    _tell(paused, as_json, f"{name} is paused.")


@schedules.command(epilog=EPILOG)
@click.argument("name", metavar="NAME")
@admin_option
@json_option
def resume(name: str, url: str, as_json: bool) -> None:
    """Go on with the next tick; those of the pause are not run."""
    resumed = admin("PATCH", url, _path(name, "resume"))
    _tell(
        resumed, as_json, f"{name} is {resumed['status']}, next: {resumed.get('next_tick', 'none')}"
    )


@schedules.command(epilog=EPILOG)
@click.argument("name", metavar="NAME")
@admin_option
@json_option
def trigger(name: str, url: str, as_json: bool) -> None:
    """Run now, whatever else runs."""
    begun = admin("POST", url, _path(name, "trigger"))
    _tell(begun, as_json, begun["invocation_id"])


@schedules.command(epilog=EPILOG)
@click.argument("name", metavar="NAME")
@click.option("--from", "start", metavar="MOMENT", required=True, help="Such as 2026-11-01T00:00Z.")
@click.option("--until", metavar="MOMENT", required=True, help="At most now. Both are included.")
@click.option("--at-once", is_flag=True, help="All at once, instead of one after the other.")
@admin_option
@json_option
def backfill(name: str, start: str, until: str, at_once: bool, url: str, as_json: bool) -> None:
    """Run the ticks of a range of the past, also those that have run. In UTC, unless it says otherwise."""
    document = {"from": start, "until": until, "at_once": at_once}
    begun = admin("POST", url, _path(name, "backfill"), content=json.dumps(document).encode())
    _tell(begun, as_json, f"{begun['tick_count']} ticks")


@schedules.command(epilog=EPILOG)
@click.argument("name", metavar="NAME")
@admin_option
@json_option
def delete(name: str, url: str, as_json: bool) -> None:
    """Delete a schedule. Its invocations stay."""
    admin("DELETE", url, _path(name))
    _tell({"name": name, "deleted": True}, as_json, f"{name} is deleted.")


# ---- in and out ----------------------------------------------------------------------------------


def _path(name: str, verb: str = "") -> str:
    return f"/schedules/{segment(name)}" + (f"/{verb}" if verb else "")


def _target(text: str) -> dict[str, str]:
    service, slash, rest = text.partition("/")
    key, has_key, handler = rest.rpartition("/")
    if not slash or not service or not handler:
        raise click.UsageError(
            f"'{text}' is not SERVICE/HANDLER or SERVICE/KEY/HANDLER, such as Counter/alice/add"
        )
    return {"service": service, "handler": handler} | ({"key": key} if has_key else {})


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--header expects NAME=VALUE, not '{text}'")
    return name, value


def _checked(body: str) -> str:
    try:
        json.loads(body)
    except ValueError as e:
        raise click.UsageError(
            f"the input is not JSON: {e}. Texts need double quotes inside the shell's single ones, "
            "such as '\"Bob\"'."
        ) from e
    return body


def _write(info: _Info, as_json: bool) -> None:
    if as_json:
        write_json(info)
        return
    shown = {name: value for name, value in info.items() if name not in _SHOWN_APART}
    shown["headers"] = ", ".join(f"{name}={value}" for name, value in info["headers"].items())
    shown["body"] = value_text(info["body"]) if "body" in info else ""
    shown["counts"] = ", ".join(f"{count} {name}" for name, count in info["counts"].items())
    shown["running"] = ", ".join(info["running"])
    shown["backfills"] = ", ".join(
        f"{each['next_tick']} to {each['until']}" for each in info["backfills"]
    )
    shown["upcoming"] = ", ".join(info["upcoming"])
    write_fields(shown)


def _tell(document: Mapping[str, Any], as_json: bool, text: str) -> None:
    if as_json:
        write_json(document)
    else:
        click.echo(text)


def _when(info: _Info) -> str:
    if "cron" in info:
        return f"{info['cron']} ({info['time_zone']})"
    return f"every {info['every']}" if "every" in info else f"at {info['at']}"


def _moment(text: str | None) -> str:
    """To the second; the whole text is in `--json`."""
    return "" if text is None else text[:19].replace("T", " ")
