"""`perdure services`: what the server serves."""

from typing import Any

import click

from perdure.gateway.cli_http import (
    EPILOG,
    admin,
    admin_option,
    json_option,
    segment,
    write_json,
    write_table,
)


@click.command(epilog=EPILOG)
@click.argument("name", required=False, metavar="[SERVICE]")
@admin_option
@json_option
def services(name: str | None, url: str, as_json: bool) -> None:
    """List the services, or the handlers of one."""
    if name is not None:
        _show(admin("GET", url, f"/services/{segment(name)}"), as_json)
        return
    found = admin("GET", url, "/services")
    if as_json:
        write_json(found)
        return
    write_table(
        ("SERVICE", "TYPE", "REVISION", "ACCESS", "HANDLERS"),
        (
            (
                each["name"],
                each["ty"],
                each["revision"],
                _access(each),
                ", ".join(handler["name"] for handler in each["handlers"]),
            )
            for each in sorted(found["services"], key=lambda each: str(each["name"]))
        ),
        "The server has no services.",
    )


def _show(service: dict[str, Any], as_json: bool) -> None:
    if as_json:
        write_json(service)
        return
    write_table(
        ("HANDLER", "TYPE", "ACCESS", "INPUT", "OUTPUT"),
        (
            (
                each["name"],
                each.get("ty", "Service"),
                _access(each),
                each["input_description"],
                each["output_description"],
            )
            for each in service["handlers"]
        ),
        "The service has no handlers.",
    )


def _access(each: dict[str, Any]) -> str:
    return "public" if each["public"] else "private"
