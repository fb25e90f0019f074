"""`perdure sql`: a query over everything that the server knows, by its `POST /query`."""

import json
import sys

import click

from perdure.gateway.cli_http import (
    EPILOG,
    admin_option,
    json_option,
    query_rows,
    write_json,
    write_table,
)

_MIXED = "--json writes one document, --jsonl a line for each row; choose one"


@click.command(epilog=EPILOG)
@click.argument("query", metavar="QUERY")
@click.option("--jsonl", is_flag=True, help="Write one JSON object a row, a line each.")
@admin_option
@json_option
def sql(query: str, jsonl: bool, url: str, as_json: bool) -> None:
    """Run a QUERY; `-` reads it from standard input. `SHOW TABLES` says what there is.

    \b
    perdure sql "select target, count(*) from sys_invocation group by target"
    """
    if jsonl and as_json:
        raise click.UsageError(_MIXED)
    if query == "-":
        query = sys.stdin.read()
    rows = query_rows(url, query)
    if as_json:
        write_json({"rows": rows})
    elif jsonl:
        for each in rows:
            click.echo(json.dumps(each))
    else:
        columns = list(dict.fromkeys(name for each in rows for name in each))
        shown = ([_cell(each.get(name)) for name in columns] for each in rows)
        write_table(columns, shown, "No rows.")


def _cell(value: object) -> object:
    """As text where it is text; lists and objects as JSON."""
    return json.dumps(value) if isinstance(value, list | dict | bool) else value
