"""The `perdure` command: its groups, `up`, and what its exit codes mean.

Only click and the settings are imported here: `up` is the server, and it shall not carry the HTTP
client and the tables of the other commands, which load when they are asked for.
"""

import gc
import importlib
import os
from importlib.metadata import version
from pathlib import Path
from typing import Final

import click

from perdure.gateway.settings import Settings, SettingsError, SystemKind
from perdure.gateway.settings_sources import load
from perdure.journal.errors import PerdureError

EXIT_CODES: Final = """\b
Exit codes:
  0  done
  1  the answer is an error, or problems were found
  2  wrong usage: arguments, settings, JSON
  3  cannot connect to the server
  4  not found: service, handler, invocation, data directory
"""
_COMMANDS: Final = {
    "call": "perdure.gateway.cli_call:call",
    "check": "perdure.gateway.cli_check:check",
    "completion": "perdure.gateway.cli_completion:completion",
    "deploy": "perdure.gateway.cli_deploy:deploy",
    "deployments": "perdure.gateway.cli_deployments:deployments",
    "doctor": "perdure.gateway.cli_doctor:doctor",
    "fork": "perdure.gateway.cli_fork:fork",
    "invocations": "perdure.gateway.cli_invocations:invocations",
    "journal": "perdure.gateway.cli_journal:journal",
    "repartition": "perdure.gateway.cli_repartition:repartition",
    "replay": "perdure.gateway.cli_replay:replay",
    "schedules": "perdure.gateway.cli_schedules:schedules",
    "serve": "perdure.gateway.serve:serve",
    "services": "perdure.gateway.cli_services:services",
    "sql": "perdure.gateway.cli_sql:sql",
    "state": "perdure.gateway.cli_state:state",
    "tree": "perdure.gateway.cli_tree:tree",
    "watch": "perdure.gateway.cli_watch:watch",
}


class _Lazy(click.Group):
    """Loads a command's module when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_COMMANDS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        where = _COMMANDS.get(cmd_name)
        if where is None:
            return super().get_command(ctx, cmd_name)
        module, _, name = where.partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


class Failure(click.ClickException):
    """The answer is an error. Ends the command with a message on standard error."""

    exit_code = 1


class CannotConnect(Failure):
    exit_code = 3


class NotFound(Failure):
    exit_code = 4


@click.group(cls=_Lazy, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("perdure"), prog_name="perdure")
def main() -> None:
    """Durable virtual objects for Python."""


@main.command(epilog=EXIT_CODES)
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.option("--data", metavar="DIR", help="Directory of the data. [default: ./perdure-data]")
@click.option(
    "--ingress", metavar="HOST:PORT", help="Where callers send requests. [default: 127.0.0.1:8080]"
)
@click.option(
    "--admin", metavar="HOST:PORT", help="Where the admin API is. [default: 127.0.0.1:9070]"
)
@click.option(
    "--config", type=click.Path(path_type=Path), envvar="PERDURE_CONFIG", metavar="FILE",
    help="A TOML file with settings; conf/perdure.toml lists them all.",
)  # fmt: skip
@click.option(
    "--set", "pairs", multiple=True, metavar="KEY=VALUE",
    help="Any other setting, such as handlers.retry.max_attempts=5. May be repeated.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Write the log as JSON lines.")
@click.option(
    "--versions", "keeps_versions", is_flag=True,
    help="Production: keep old code for what began with it; see `perdure deploy`.",
)  # fmt: skip
@click.option(
    "--reload", "reloads", is_flag=True,
    help="Development: start again whenever a source file of TARGET changes.",
)  # fmt: skip
@click.option(
    "--system", "kind", type=click.Choice(["embedded", "processes"]),
    help="One process, or a supervised tree of them that uses all cores. [default: embedded]",
)  # fmt: skip
@click.option(
    "--partitions", type=click.IntRange(1, 64),
    help="Processes that run handlers, each with a part of the data. [default: 1]",
)  # fmt: skip
@click.option(
    "--gateways", type=click.IntRange(1, 64),
    help="Processes that accept requests. [default: 1]",
)  # fmt: skip
def up(
    targets: tuple[str, ...],
    data: str | None,
    ingress: str | None,
    admin: str | None,
    config: Path | None,
    pairs: tuple[str, ...],
    as_json: bool,
    reloads: bool,
    keeps_versions: bool,
    kind: str | None,
    partitions: int | None,
    gateways: int | None,
) -> None:
    """Serve the services in TARGET: a file or a module, with or without `:name`.

    A TARGET may be an ASGI app on the official SDK, which is then hosted in this process. Without any,
    only deployments that are registered at the admin API are served.

    Settings come from FILE, then PERDURE_* variables (PERDURE_INGRESS__BIND), then these flags.
    """
    named = {
        "data": data,
        "ingress.bind": ingress,
        "admin.bind": admin,
        "log.format": "json" if as_json else None,
        "system": kind,
        "partitions": partitions,
        "gateways": gateways,
    }
    flags: dict[str, object] = dict(_pair(each) for each in pairs)
    flags |= {key: value for key, value in named.items() if value is not None}
    settings = _load(config, flags)
    from perdure.gateway import logs

    if (reloads or keeps_versions) and not targets:
        raise click.UsageError("--reload and --versions need a TARGET: there is no code without")
    if reloads and keeps_versions:
        raise click.UsageError("--reload replaces code, and --versions keeps it; choose one")
    gc.disable()  # imports leave no garbage; to look for it took a tenth of a start
    run = importlib.import_module(f"perdure.gateway.{_server(settings, reloads)}").run
    gc.freeze()
    gc.enable()
    logs.configure(settings.log)
    try:
        if keeps_versions:
            run(settings, list(targets), keeps_versions=True)
        else:
            run(settings, list(targets))
    except SettingsError as e:
        raise click.UsageError(str(e)) from e
    except PerdureError as e:
        raise Failure(str(e)) from e


def _server(settings: Settings, reloads: bool) -> str:
    """The module that serves."""
    if settings.system is SystemKind.PROCESSES:
        return "reload" if reloads else "up_processes"
    if settings.partitions > 1 or settings.gateways > 1:
        raise click.UsageError(
            "several partitions or gateways are several processes: add --system processes"
        )
    return "reload" if reloads else "up"


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--set expects KEY=VALUE, not '{text}'")
    return key.strip(), value.strip()


def _load(config: Path | None, flags: dict[str, object]) -> Settings:
    try:
        return load(config, os.environ, flags)
    except SettingsError as e:
        raise click.UsageError(str(e)) from e
