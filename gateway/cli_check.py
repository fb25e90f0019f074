"""`perdure check`: would the invocations in flight go on with this code?"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click

from perdure.embedded import flatten
from perdure.gateway import check_sources, cli
from perdure.gateway.checking import (
    BREAKS,
    DEFAULT_TIMEOUT_S,
    Candidate,
    Code,
    Finding,
    HandlerReport,
    Report,
    Verdict,
)
from perdure.gateway.cli_http import EPILOG, json_option, token_option, write_json
from perdure.gateway.logs import escape
from perdure.gateway.settings import SettingsError
from perdure.gateway.targets import load_all
from perdure.journal.errors import UsageError

_SENTENCES: Final = {
    Verdict.MISMATCH: "",  # its text says so
    Verdict.VANISHED: "its handler is gone: ",
    Verdict.RAISES: "it would raise what is no answer: ",
    Verdict.STUCK: "",
    Verdict.STILL_FAILS: "(it fails already, and still would) ",
}


@click.command(epilog=EPILOG)
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option(
    "--against", envvar="PERDURE_ADMIN_URL", default="http://127.0.0.1:9070", show_default=True,
    metavar="DATA|URL",
    help="A data directory (read only, its server stopped), or the admin API of a running server.",
)  # fmt: skip
@click.option(
    "--completed", type=click.IntRange(0, 100_000), default=0, metavar="N",
    help="Check the last N completed invocations as well.",
)  # fmt: skip
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0.001), default=DEFAULT_TIMEOUT_S,
    show_default=True, metavar="SECONDS", help="How long one replay may take.",
)  # fmt: skip
@click.option(
    "--show", type=click.IntRange(0), default=5, show_default=True, metavar="N",
    help="How many invocations of each handler to show; --json has more.",
)  # fmt: skip
@token_option
@json_option
def check(
    targets: tuple[str, ...],
    against: str,
    completed: int,
    timeout_s: float,
    show: int,
    as_json: bool,
) -> None:
    """Replay the journals in flight with the code in TARGET, and list what would break.

    TARGET is a file or a module, as for `perdure up`. Every unfinished invocation is replayed without
    effects: commands are matched and not carried out, closures of `ctx.run` do not start. Code outside
    of `ctx.run` runs. Ends with 1 where anything would break.
    """
    code = load_code(targets)
    report = asyncio.run(code.report(candidates(against, completed), timeout_s))
    if as_json:
        write_json(document(report))
    else:
        write_report(report, show)
    if report.breaking:
        raise click.exceptions.Exit(cli.Failure.exit_code)


def load_code(targets: tuple[str, ...]) -> Code:
    """Raises UsageError of click where the targets can't be loaded, or can't be replayed at all."""
    try:
        loaded = load_all(list(targets))
        if not loaded.services:
            raise SettingsError(
                f"{' '.join(targets)}: an app of another SDK can't be replayed, only services of Perdure"
            )
        return Code(*flatten(loaded.services))
    except (SettingsError, UsageError) as e:
        raise click.UsageError(str(e)) from e


def candidates(against: str, completed: int) -> Iterator[Candidate]:
    """Raises Failure of the command line."""
    if "://" in against:
        return check_sources.from_server(against, completed)
    return check_sources.from_directory(Path(against), completed)


# ---- output --------------------------------------------------------------------------------------


def write_report(report: Report, show: int) -> None:
    for name in sorted(report.handlers):
        _write_handler(report.handlers[name], show)
    click.echo(f"Checked {_count(report.checked)}.")
    if report.elsewhere:
        click.echo(f"Not checked: {_count(report.elsewhere)} of handlers in other deployments.")
    if report.purged:
        click.echo(f"Not checked: {_count(report.purged)} whose journals are gone.")
    if report.breaking:
        click.echo(f"{_count(report.breaking)} would break.")
    else:
        click.echo("Nothing would break.")


def _write_handler(report: HandlerReport, show: int) -> None:
    if not report.findings:
        return
    click.echo(f"{escape(report.handler)}: {report.breaking} of {report.checked} would break")
    findings = sorted(report.findings, key=lambda each: each.verdict not in BREAKS)
    for each in findings[:show]:
        _write_finding(each)
    if len(findings) > show:
        click.echo(f"  and {len(findings) - show} more")
    click.echo()


def _write_finding(finding: Finding) -> None:
    click.echo(f"  {finding.id}  {escape(finding.target)}")
    lines = (_SENTENCES.get(finding.verdict, "") + finding.text).split("\n")
    for line in lines:
        click.echo("    " + escape(line))
    if finding.where:
        click.echo("    at " + escape(finding.where))


def _count(number: int) -> str:
    return f"{number} invocation" if number == 1 else f"{number} invocations"


def document(report: Report) -> dict[str, Any]:
    """For machines."""
    return {
        "checked": report.checked,
        "breaking": report.breaking,
        "elsewhere": report.elsewhere,
        "purged": report.purged,
        "handlers": [
            {
                "handler": each.handler,
                "checked": each.checked,
                "breaking": each.breaking,
                "findings": [_finding_json(finding) for finding in each.findings],
            }
            for _, each in sorted(report.handlers.items())
        ],
    }


def _finding_json(finding: Finding) -> dict[str, Any]:
    return {
        "id": finding.id,
        "target": finding.target,
        "verdict": finding.verdict.value,
        "breaks": finding.verdict in BREAKS,
        "text": finding.text,
        "where": finding.where,
    }
