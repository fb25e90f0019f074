"""Reads off a query's optimised plan what it needs of each table. Forms that are not understood widen it."""

import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from datafusion import LogicalPlan
from datafusion.expr import (
    BinaryExpr,
    Column,
    Expr,
    Filter,
    InList,
    Limit,
    Literal,
    Projection,
    Sort,
    SubqueryAlias,
    TableScan,
)

from perdure.gateway.sql.needs import Condition, Need, Top, everything

_SCANNED: Final = re.compile(r"TableScan: ([^\s]+)")


def needs(plan: LogicalPlan, tables: dict[str, set[str]]) -> dict[str, Need]:
    """By table. ``tables``: the columns of each table there is."""
    found: dict[str, list[Need]] = {}
    for name, need in _scans(plan, _Above()):
        if name in tables:
            found.setdefault(name, []).append(need)
    wanted = {}
    for name, count in _scan_counts(plan).items():
        if name not in tables:
            continue  # such as the information schema
        parts = found.get(name, [])
        if len(parts) != count:  # one is within an expression, where nothing is known of it
            wanted[name] = everything(tables[name])
            continue
        wanted[name] = Need(
            set[str]().union(*(each.columns for each in parts)),
            [each.alternatives[0] for each in parts],
            parts[0].limit if count == 1 else None,
            parts[0].top if count == 1 else None,
        )
    return wanted


def _scan_counts(plan: LogicalPlan) -> dict[str, int]:
    """How often each table is scanned, also within expressions. Texts of the query may add to it."""
    counts: dict[str, int] = {}
    for each in _SCANNED.findall(plan.display_indent()):
        name = each.rpartition(".")[2].strip('"')
        counts[name] = counts.get(name, 0) + 1
    return counts


class _Above(msgspec.Struct, frozen=True):
    """What stands between a node and what is known to be asked of its rows."""

    filters: tuple[Expr, ...] = ()
    limit: int | None = None
    top: Top | None = None


def _scans(plan: LogicalPlan, above: _Above) -> Iterator[tuple[str, Need]]:
    """Every scan below ``plan``."""
    node = _variant(plan)
    if isinstance(node, TableScan):
        yield node.table_name().rpartition(".")[2], _need(node, above)
        return
    below = _below(node, above)
    for each in plan.inputs():
        yield from _scans(each, below)


def _below(node: Any, above: _Above) -> _Above:
    match node:
        case Filter():
            return _Above((*above.filters, node.predicate()), above.limit, above.top)
        case Limit():
            limit = _limit(node)
            if not above.filters and above.limit is not None and limit is not None:
                limit = min(limit, above.limit)  # filters above choose among what it lets through
            return _Above(limit=limit)
        case Sort():
            return _Above(top=_top(node))
        case Projection() if not above.filters:
            is_plain = all(_column(Expr(each)) is not None for each in node.projections())
            return _Above(limit=above.limit, top=above.top if is_plain else None)
        case SubqueryAlias():
            return above
        case _:
            return _Above()


def _top(node: Sort) -> Top | None:
    first = node.sort_exprs()[0]
    column, count = _column(Expr(first.expr())), node.get_fetch_val()
    if column is None or count is None:
        return None
    return Top(column, count, not first.ascending())


def _variant(node: LogicalPlan | Expr) -> Any:
    """What kind of node it is; None for the few that the bindings do not know."""
    try:
        return node.to_variant()
    except ValueError:
        return None


def _limit(node: Limit) -> int | None:
    fetch, skip = (_value(each) for each in (node.fetch(), node.skip()))
    if not isinstance(fetch, int):
        return None
    return fetch + (skip if isinstance(skip, int) else 0)


def _need(scan: TableScan, above: _Above) -> Need:
    parts = [part for each in [*above.filters, *scan.filters()] for part in _conjuncts(each)]
    conditions = [_condition(each) for each in parts]
    understood = tuple(each for each in conditions if each is not None)
    columns = {name for _, name in scan.projection()}
    if len(understood) < len(parts):
        return Need(columns, [understood])
    limit = above.limit if parts or scan.fetch() is None else scan.fetch()
    return Need(columns, [understood], limit, above.top)


# ---- expressions ---------------------------------------------------------------------------------


def _conjuncts(expr: Expr) -> Iterator[Expr]:
    node = _variant(expr)
    if isinstance(node, BinaryExpr) and node.op() == "AND":
        yield from _conjuncts(Expr(node.left()))
        yield from _conjuncts(Expr(node.right()))
    else:
        yield expr


def _condition(expr: Expr) -> Condition | None:
    """What ``expr`` asks of one column, where it is of a simple form."""
    node = _variant(expr)
    if isinstance(node, InList):
        return _membership(node)
    if not isinstance(node, BinaryExpr):
        return None
    if node.op() == "OR":  # a short list of values is written so by the optimiser
        either = _condition(Expr(node.left())), _condition(Expr(node.right()))
        return _union(*either)
    if node.op() not in ("=", "!="):
        return None
    left, right = Expr(node.left()), Expr(node.right())
    column, value = _column(left), _value(right)
    if column is None:
        column, value = _column(right), _value(left)
    if column is None or value is None:
        return None
    return Condition(column, frozenset({value}), node.op() == "!=")


def _membership(node: InList) -> Condition | None:
    column = _column(Expr(node.expr()))
    values = [_value(each) for each in node.list()]
    known = frozenset(each for each in values if each is not None)
    if column is None or len(values) != sum(each is not None for each in values):
        return None
    return Condition(column, known, node.negated())


def _union(left: Condition | None, right: Condition | None) -> Condition | None:
    if left is None or right is None or left.column != right.column:
        return None
    if left.negated or right.negated:
        return None
    return Condition(left.column, left.values | right.values)


def _column(expr: Expr) -> str | None:
    node = _variant(expr)
    return node.name() if isinstance(node, Column) else None


def _value(expr: Any) -> str | int | None:
    """The value of a text or whole number that is written out; None for anything else."""
    wrapped = expr if isinstance(expr, Expr) else Expr(expr)
    if not isinstance(_variant(wrapped), Literal):
        return None
    value = wrapped.python_value().as_py()
    return value if isinstance(value, str | int) and not isinstance(value, bool) else None
