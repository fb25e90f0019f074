"""`perdure deploy`: let new code in beside the old one, after a check."""

import asyncio
import json

import click

from perdure.gateway import check_sources
from perdure.gateway.cli import Failure
from perdure.gateway.cli_check import load_code, write_report
from perdure.gateway.cli_http import EPILOG, admin, admin_option, json_option, write_json
from perdure.gateway.logs import escape
from perdure.gateway.settings import SettingsError
from perdure.gateway.version_code import project_of
from perdure.gateway.version_store import digest


@click.command(epilog=EPILOG)
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("--force", is_flag=True, help="Let it in whatever the check says.")
@admin_option
@json_option
def deploy(targets: tuple[str, ...], force: bool, url: str, as_json: bool) -> None:
    """Let the code in TARGET take what is new, in a server that was started with --versions.

    TARGET is what the server was started with, changed. First the journals in flight are replayed with it,
    as by `perdure check`, and if one would break it is not let in without --force. Invocations that
    journaled a step keep the code that they began with.
    """
    try:
        project, _ = project_of(targets)
        expected = digest(project)
    except SettingsError as e:
        raise click.UsageError(str(e)) from e
    if not force:
        report = asyncio.run(load_code(targets).report(check_sources.from_server(url, 0)))
        if report.breaking:
            write_report(report, 5)
            raise Failure(
                "not deployed. Invocations that journaled a step would keep their code; with --force the "
                "new code is let in for everything else"
            )
    content = json.dumps({"expected": expected}).encode()
    found = admin("POST", url, "/code", content=content)
    if as_json:
        write_json(found)
    elif found["is_new"]:
        click.echo(escape(f"Deployed code {found['code']} as {found['deployment_id']}."))
    else:
        click.echo(escape(f"Code {found['code']} takes what is new already."))
