"""Kafka clusters and subscriptions: what may be set up, and how it is shown. Pure.

They are kept and told; this server reads no topic. Rules: admin 9.
"""

import re
from typing import Final
from urllib.parse import urlsplit

import msgspec
from msgspec.structs import replace

from perdure.gateway.deployment_errors import DeploymentRefused, coded
from perdure.gateway.durations import rfc3339_ns
from perdure.gateway.operator_book import Book, Cluster, Subscription
from perdure.journal.schema import Service

_BROKERS: Final = ("bootstrap.servers", "metadata.broker.list")
_SECRET: Final = (
    "password", "secret", "passphrase", "sasl.username", "sasl.jaas.config", "sasl.oauthbearer.config",
    "token.endpoint.url",
)  # fmt: skip
_MOST_CLUSTERS: Final = 1000
_MOST_SUBSCRIPTIONS: Final = 1000
_HIDDEN: Final = "***"
_NAME: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=\-]+(?::[0-9]*)?\Z").match  # a URI's authority
_DEFAULT_CLIENT: Final = "restate"  # as the official server calls itself


class ClusterBody(msgspec.Struct, frozen=True):
    name: str
    properties: dict[str, str]


class ClusterUpdate(msgspec.Struct, frozen=True):
    properties: dict[str, str]


class SubscriptionBody(msgspec.Struct, frozen=True):
    source: str
    sink: str
    options: dict[str, str] | None = None


class SubscriptionShown(msgspec.Struct, frozen=True):
    id: str
    source: str
    sink: str
    options: dict[str, str]


class ClusterShown(msgspec.Struct, frozen=True, kw_only=True):
    """``subscriptions``: only where one cluster is asked for, empty unless they are asked for, too."""

    name: str
    properties: dict[str, str]
    created_at: str
    subscriptions: list[SubscriptionShown] | msgspec.UnsetType = msgspec.UNSET


class Clusters(msgspec.Struct, frozen=True):
    clusters: list[ClusterShown]


class Subscriptions(msgspec.Struct, frozen=True):
    subscriptions: list[SubscriptionShown]


# ---- clusters ------------------------------------------------------------------------------------


def find_cluster(book: Book, name: str) -> Cluster | None:
    return next((each for each in book.clusters if each.name == name), None)


def create_cluster(book: Book, body: ClusterBody, now_ms: int) -> tuple[Book, Cluster]:
    """Raises DeploymentRefused."""
    if not _NAME(body.name):
        raise DeploymentRefused(
            400, "The request field 'name' is invalid. Reason: expected the authority of a URI"
        )
    _require_brokers(body.properties)
    if find_cluster(book, body.name) is not None:
        raise DeploymentRefused(
            409, f"kafka cluster '{body.name}' already exists in schema registry"
        )
    if len(book.clusters) >= _MOST_CLUSTERS:
        raise DeploymentRefused(409, f"there are {_MOST_CLUSTERS} Kafka clusters; remove one first")
    cluster = Cluster(body.name, body.properties, now_ms)
    return replace(book, clusters=(*book.clusters, cluster)), cluster


def update_cluster(book: Book, name: str, properties: dict[str, str]) -> tuple[Book, Cluster]:
    """Raises DeploymentRefused."""
    old = find_cluster(book, name)
    if old is None:
        raise DeploymentRefused(404, f"not found in the schema registry: kafka cluster '{name}'")
    _require_brokers(properties)
    cluster = replace(old, properties=properties)
    clusters = tuple(cluster if each is old else each for each in book.clusters)
    return replace(book, clusters=clusters), cluster


def delete_cluster(book: Book, name: str, force: bool) -> tuple[Book, None]:
    """Raises DeploymentRefused. With ``force`` its subscriptions go with it."""
    old = find_cluster(book, name)
    if old is None:
        raise DeploymentRefused(
            404, f"not found in the schema registry: kafka cluster named '{name}'"
        )
    fed = [each.id for each in book.subscriptions if each.cluster == name]
    if fed and not force:
        raise DeploymentRefused(
            409,
            f"Removing the kafka cluster '{name}' leads to subscription '{fed[0]}' being orphan. Remove the "
            "subscription first, or use the 'force' flag.",
        )
    clusters = tuple(each for each in book.clusters if each is not old)
    subscriptions = tuple(each for each in book.subscriptions if each.cluster != name)
    return replace(book, clusters=clusters, subscriptions=subscriptions), None


def _require_brokers(properties: dict[str, str]) -> None:
    if not any(properties.get(name) for name in _BROKERS):
        raise DeploymentRefused(
            400,
            "The request field 'properties' is invalid. Reason: expected 'bootstrap.servers' or "
            "'metadata.broker.list'",
        )


def cluster_shown(cluster: Cluster) -> ClusterShown:
    properties = {
        name: _HIDDEN if any(each in name for each in _SECRET) else value
        for name, value in cluster.properties.items()
    }
    return ClusterShown(
        name=cluster.name, properties=properties, created_at=rfc3339_ns(cluster.created_at_ms)
    )


# ---- subscriptions -------------------------------------------------------------------------------


def find_subscription(book: Book, id: str) -> Subscription | None:
    return next((each for each in book.subscriptions if each.id == id), None)


def create_subscription(
    book: Book, body: SubscriptionBody, id: str, services: dict[str, Service]
) -> tuple[Book, Subscription]:
    """Raises DeploymentRefused."""
    cluster, topic = _parts(body.source, "kafka", "source")
    service, handler = _parts(body.sink, "service", "sink")
    if find_cluster(book, cluster) is None:
        known = ", ".join(f'"{each.name}"' for each in book.clusters)
        raise DeploymentRefused(
            400, f"Kafka cluster '{cluster}' not found. Available clusters: [{known}]"
        )
    found = services.get(service)
    if found is None or handler not in found.handlers:
        raise coded(400, "META0009", f"invalid sink '{body.sink}': there is no such handler")
    if not found.handlers[handler].public:
        raise coded(400, "META0009", f"invalid sink '{body.sink}': the handler is private")
    if len(book.subscriptions) >= _MOST_SUBSCRIPTIONS:
        raise DeploymentRefused(
            409, f"there are {_MOST_SUBSCRIPTIONS} subscriptions; remove one first"
        )
    subscription = Subscription(id, cluster, topic, service, handler, body.options or {})
    return replace(book, subscriptions=(*book.subscriptions, subscription)), subscription


def _parts(uri: str, scheme: str, field: str) -> tuple[str, str]:
    """The authority, and the one segment of the path. Case is kept."""
    try:
        parts = urlsplit(uri)
    except ValueError as e:
        raise coded(400, "META0009", f"invalid {field} '{_plain(uri)}': {e}") from None
    first, second = parts.netloc, parts.path.removeprefix("/")
    if parts.scheme != scheme or not first or not second or "/" in second:
        raise coded(
            400,
            "META0009",
            f"invalid {field} '{_plain(uri)}': expected {scheme}://<name>/<name>",
        )
    return first, second


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def delete_subscription(book: Book, id: str) -> tuple[Book, bool]:
    """Whether it was there."""
    kept = tuple(each for each in book.subscriptions if each.id != id)
    return replace(book, subscriptions=kept), len(kept) != len(book.subscriptions)


def subscription_shown(book: Book, subscription: Subscription) -> SubscriptionShown:
    """With the defaults of its options: of the cluster's properties, then ours."""
    cluster = find_cluster(book, subscription.cluster)
    properties = {} if cluster is None else cluster.properties
    options = {
        "group.id": properties.get("group.id", subscription.id),
        "client.id": properties.get("client.id", _DEFAULT_CLIENT),
    } | subscription.options
    return SubscriptionShown(
        subscription.id,
        f"kafka://{subscription.cluster}/{subscription.topic}",
        f"service://{subscription.service}/{subscription.handler}",
        options,
    )
