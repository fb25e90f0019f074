"""The admin API's operations on limit rules and virtual queues, and on Kafka clusters and subscriptions.

Bodies to the rules of gateway/limit_rules.py and gateway/kafka.py, what they say to JSON. Rules: admin 8, 9.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web

from perdure.gateway import kafka, limit_rules
from perdure.gateway.admin_answers import bad_query, error, json_answer, json_of, misshapen, text
from perdure.gateway.operator_book import OperatorBook
from perdure.journal.errors import BadId
from perdure.journal.ids import format_subscription_id, parse_subscription_id, parse_vqueue_id
from perdure.journal.requests import Runtime

_Operation = Callable[..., Awaitable[web.Response]]
_LARGEST_RULES_BYTES: Final = 16 << 20  # 10,000 rules with long descriptions
_LARGEST_BODY_BYTES: Final = 64 << 10  # what is kept of each cluster and subscription
_BOOLEANS: Final = {"true": True, "false": False}


class FlowOperations:
    def __init__(
        self,
        runtime: Runtime,
        book: OperatorBook,
        size_limit_bytes: int,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._runtime = runtime
        self._book = book
        self._rules_limit_bytes = min(size_limit_bytes, _LARGEST_RULES_BYTES)
        self._size_limit_bytes = min(size_limit_bytes, _LARGEST_BODY_BYTES)
        self._random_bytes = random_bytes
        self.operations: dict[str, _Operation] = {
            "put_rules": self._put_rules,
            "delete_rules": self._delete_rules,
            "operate_vqueue": self._operate_vqueue,
            "create_cluster": self._create_cluster,
            "clusters": self._clusters,
            "cluster": self._cluster,
            "update_cluster": self._update_cluster,
            "delete_cluster": self._delete_cluster,
            "create_subscription": self._create_subscription,
            "subscriptions": self._subscriptions,
            "subscription": self._subscription,
            "delete_subscription": self._delete_subscription,
        }

    # ---- limits

    async def _put_rules(self, request: web.BaseRequest) -> web.Response:
        bodies = await json_of(request, self._rules_limit_bytes, list[limit_rules.RuleBody])
        if isinstance(bodies, web.Response):
            return bodies
        now_ms = _now_ms()
        try:
            rules = await self._book.change(lambda book: limit_rules.put(book, bodies, now_ms))
        except limit_rules.BadRules as e:
            return misshapen(e)
        return json_answer([limit_rules.shown(each) for each in rules])

    async def _delete_rules(self, request: web.BaseRequest) -> web.Response:
        bodies = await json_of(request, self._rules_limit_bytes, list[limit_rules.Deletion])
        if isinstance(bodies, web.Response):
            return bodies
        return json_answer(await self._book.change(lambda book: limit_rules.delete(book, bodies)))

    async def _operate_vqueue(self, request: web.BaseRequest, vqueue_id: str) -> web.Response:
        """Accepted for every id that can be one: without virtual queues there is none to pause."""
        try:
            parse_vqueue_id(vqueue_id)
        except BadId as e:
            return error(400, f"The request field 'vqueue_id' is invalid. Reason: {e}")
        return web.Response(status=202)

    # ---- Kafka clusters

    async def _create_cluster(self, request: web.BaseRequest) -> web.Response:
        body = await json_of(request, self._size_limit_bytes, kafka.ClusterBody)
        if isinstance(body, web.Response):
            return body
        now_ms = _now_ms()
        cluster = await self._book.change(lambda book: kafka.create_cluster(book, body, now_ms))
        response = json_answer(kafka.cluster_shown(cluster), 201)
        response.headers[hdrs.LOCATION] = f"kafka-clusters/{cluster.name}"
        return response

    async def _clusters(self, request: web.BaseRequest) -> web.Response:
        shown = [kafka.cluster_shown(each) for each in self._book.book.clusters]
        return json_answer(kafka.Clusters(shown))

    async def _cluster(self, request: web.BaseRequest, name: str) -> web.Response:
        included = _flag(request, "include_subscriptions")
        if isinstance(included, web.Response):
            return included
        book = self._book.book
        cluster = kafka.find_cluster(book, name)
        if cluster is None:
            return error(404, f"The requested Kafka cluster '{name}' does not exist")
        fed = [
            kafka.subscription_shown(book, each)
            for each in book.subscriptions
            if included and each.cluster == name
        ]
        shown = kafka.cluster_shown(cluster)
        return json_answer(
            kafka.ClusterShown(
                name=name,
                properties=shown.properties,
                created_at=shown.created_at,
                subscriptions=fed,
            )
        )

    async def _update_cluster(self, request: web.BaseRequest, name: str) -> web.Response:
        body = await json_of(request, self._size_limit_bytes, kafka.ClusterUpdate)
        if isinstance(body, web.Response):
            return body
        cluster = await self._book.change(
            lambda book: kafka.update_cluster(book, name, body.properties)
        )
        return json_answer(kafka.cluster_shown(cluster))

    async def _delete_cluster(self, request: web.BaseRequest, name: str) -> web.Response:
        force = _flag(request, "force")
        if isinstance(force, web.Response):
            return force
        await self._book.change(lambda book: kafka.delete_cluster(book, name, force))
        return web.Response(status=202)

    # ---- subscriptions

    async def _create_subscription(self, request: web.BaseRequest) -> web.Response:
        body = await json_of(request, self._size_limit_bytes, kafka.SubscriptionBody)
        if isinstance(body, web.Response):
            return body
        id = format_subscription_id(_now_ms().to_bytes(6, "big") + self._random_bytes(10))
        services = self._runtime.services()
        made = await self._book.change(
            lambda book: kafka.create_subscription(book, body, id, services)
        )
        response = json_answer(kafka.subscription_shown(self._book.book, made), 201)
        response.headers[hdrs.LOCATION] = f"subscriptions/{id}"
        return response

    async def _subscriptions(self, request: web.BaseRequest) -> web.Response:
        query, book = request.rel_url.query, self._book.book
        source, sink = query.get("source"), query.get("sink")
        shown = [kafka.subscription_shown(book, each) for each in book.subscriptions]
        found = [
            each for each in shown if source in (None, each.source) and sink in (None, each.sink)
        ]
        return json_answer(kafka.Subscriptions(found))

    async def _subscription(self, request: web.BaseRequest, id: str) -> web.Response:
        refused = _bad_subscription_id(id)
        if refused is not None:
            return refused
        found = kafka.find_subscription(self._book.book, id)
        if found is None:
            return error(404, f"The requested subscription '{id}' does not exist")
        return json_answer(kafka.subscription_shown(self._book.book, found))

    async def _delete_subscription(self, request: web.BaseRequest, id: str) -> web.Response:
        refused = _bad_subscription_id(id)
        if refused is not None:
            return refused
        if await self._book.change(lambda book: kafka.delete_subscription(book, id)):
            return web.Response(status=202)
        return error(404, f"The requested subscription '{id}' does not exist")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _flag(request: web.BaseRequest, name: str) -> bool | web.Response:
    given = request.rel_url.query.get(name, "false")
    found = _BOOLEANS.get(given)
    if found is None:
        return bad_query(f"{name}: provided string was not `true` or `false`: '{given}'")
    return found


def _bad_subscription_id(given: str) -> web.Response | None:
    try:
        parse_subscription_id(given)
    except BadId as e:
        shown = "".join(c if c.isprintable() else "?" for c in given)
        return text(400, f"Invalid URL: Cannot parse `{shown}` to a `SubscriptionId`: {e}")
    return None
