"""Limit rules, virtual queues, Kafka clusters and subscriptions over HTTP, and kept on disk (admin 8, 9)."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from perdure.gateway import kafka, limit_rules
from perdure.gateway.deployment_errors import DeploymentRefused
from perdure.gateway.limit_rules import RuleBody
from perdure.gateway.operator_book import Book, BookFile, Cluster, OperatorBook, Rule, Subscription
from tests.gateway.runtime import example_services
from tests.gateway.serving import Served, served
from tests.gateway.test_admin import error, text

BROKERS = {"bootstrap.servers": "PLAINTEXT://127.0.0.1:1"}
SUBSCRIPTION = "sub_11nGQpCRmau6ypL82KH2TnP"
VQUEUE = "vq_1" + "0" * 33


async def put(on: Served, *rules: dict[str, Any]) -> httpx.Response:
    return await on.admin.put("/limits/rules", json=list(rules))


def versions(response: httpx.Response) -> list[int]:
    assert response.status_code == 200, response.text
    return [each["version"] for each in response.json()]


# ---- rules ---------------------------------------------------------------------------------------


def test_rules_are_answered_in_the_order_asked_for() -> None:
    async def test(on: Served) -> None:
        response = await on.admin.put(
            "/v4/limits/rules",
            json=[
                {"pattern": "b/*", "limits": {"concurrency": 2}, "description": "why"},
                {"pattern": "a", "disabled": True},
            ],
        )
        first, second = response.json()
        assert list(first) == [
            "pattern", "limits", "description", "disabled", "version", "last_modified_millis_since_epoch",
        ]  # fmt: skip
        assert first["limits"] == {"concurrency": 2}
        assert (first["description"], first["disabled"], first["version"]) == ("why", False, 1)
        assert (second["pattern"], second["limits"], second["disabled"]) == ("a", {}, True)
        assert "description" not in second
        assert (await put(on)).json() == []

    served(test)


def test_versions_count_as_the_official_server_counts() -> None:
    async def test(on: Served) -> None:
        assert versions(await put(on, {"pattern": "a"})) == [1]
        assert versions(await put(on, {"pattern": "b"})) == [2]
        assert versions(await put(on, {"pattern": "c"})) == [3]
        assert versions(await put(on, {"pattern": "a", "limits": {"concurrency": 1}})) == [2]
        changed = {"pattern": "a", "limits": {"concurrency": 1}, "description": "x"}
        assert versions(await put(on, changed)) == [2]
        assert versions(await put(on, {**changed, "disabled": True})) == [3]

    served(test)


def test_a_precondition_that_fails_changes_nothing() -> None:
    async def test(on: Served) -> None:
        await put(on, {"pattern": "lim"})
        matches = {"pattern": "lim", "precondition": {"type": "matches", "version": 99}}
        told = "rule precondition Matches(v99) for pattern lim failed (actual version: Some(v1))"
        assert error(await put(on, {"pattern": "new"}, matches)) == (409, told)
        fresh = {"pattern": "new", "precondition": {"type": "does_not_exist"}}
        assert (await put(on, fresh)).status_code == 200
        assert error(await put(on, fresh))[0] == 409
        unknown = {"pattern": "x", "precondition": {"type": "matches", "version": 1}}
        told = "rule precondition Matches(v1) for pattern x failed (actual version: None)"
        assert error(await put(on, unknown)) == (409, told)

    served(test)


@pytest.mark.parametrize(
    "rule",
    [
        {"pattern": ""},
        {"pattern": "a/b/c/d"},
        {"pattern": "a//b"},
        {"pattern": "a b"},
        {"pattern": "a\n"},
        {"pattern": "x" * 37},
        {"pattern": "a", "limits": {"concurrency": 0}},
        {"pattern": "a", "precondition": {"type": "matches"}},
        {"pattern": "a", "precondition": {"type": "perhaps"}},
        {},
    ],
)
def test_a_bad_rule_has_the_wrong_shape(rule: dict[str, Any]) -> None:
    async def test(on: Served) -> None:
        assert text(await put(on, rule))[0] == 422

    served(test)


def test_there_is_a_limit_of_rules() -> None:
    book, _ = limit_rules.put(Book(), [RuleBody(str(i)) for i in range(10_000)], 1)
    limit_rules.put(book, [RuleBody("5")], 1)
    with pytest.raises(limit_rules.BadRules):
        limit_rules.put(book, [RuleBody("more")], 1)


def test_rules_are_deleted_together() -> None:
    async def test(on: Served) -> None:
        await put(on, {"pattern": "a"}, {"pattern": "b"})
        url = "/limits/rules/bulk-delete"
        bad = [{"pattern": "a"}, {"pattern": "b", "expected_version": 7}]
        assert error(await on.admin.post(url, json=bad))[0] == 409
        bad = [{"pattern": "nobody", "expected_version": 1}]
        assert error(await on.admin.post(url, json=bad))[0] == 409
        good = [{"pattern": "b", "expected_version": 1}, {"pattern": "nobody"}, {"pattern": "a"}]
        assert (await on.admin.post(url, json=good)).json() == ["b", "a"]
        assert (await on.admin.post(url, json=good[1:])).json() == []
        assert (await on.admin.get("/limits/rules")).status_code == 405

    served(test)


# ---- virtual queues ------------------------------------------------------------------------------


def test_virtual_queues_are_paused_by_a_well_formed_id() -> None:
    async def test(on: Served) -> None:
        for verb in ("pause", "resume"):
            response = await on.admin.post(f"/vqueues/{VQUEUE}/{verb}")
            assert (response.status_code, response.content) == (202, b"")
        assert (await on.admin.post(f"/vqueues/{VQUEUE}/kill")).status_code == 404
        invalid = "The request field 'vqueue_id' is invalid. Reason: "
        assert error(await on.admin.post("/vqueues/vq_2x/pause")) == (
            400, invalid + "unrecognized codec version",
        )  # fmt: skip
        assert error(await on.admin.post("/vqueues/vq_1x/pause")) == (400, invalid + "bad length")

    served(test)


# ---- Kafka ---------------------------------------------------------------------------------------


async def create(on: Served, name: str = "kk", **properties: str) -> httpx.Response:
    body = {"name": name, "properties": properties or BROKERS}
    return await on.admin.post("/kafka-clusters", json=body)


async def subscribe(on: Served, **more: Any) -> httpx.Response:
    body = {"source": "kafka://kk/topic", "sink": "service://Greeter/greet", **more}
    return await on.admin.post("/subscriptions", json=body)


def test_a_cluster_is_created_read_changed_and_removed() -> None:
    async def test(on: Served) -> None:
        response = await create(on)
        assert response.status_code == 201
        assert response.headers["location"] == "kafka-clusters/kk"
        shown = response.json()
        assert list(shown) == ["name", "properties", "created_at"]
        assert (await on.admin.get("/kafka-clusters")).json() == {"clusters": [shown]}
        one = (await on.admin.get("/kafka-clusters/kk")).json()
        assert one == {**shown, "subscriptions": []}
        other = {"properties": {"metadata.broker.list": "b:1", "sasl.password": "secret"}}
        changed = (await on.admin.patch("/kafka-clusters/kk", json=other)).json()
        assert changed["properties"] == {"metadata.broker.list": "b:1", "sasl.password": "***"}
        assert (await on.admin.delete("/kafka-clusters/kk")).status_code == 202
        assert (await on.admin.get("/kafka-clusters/kk")).status_code == 404

    served(test)


def test_what_a_cluster_can_not_be_is_refused() -> None:
    async def test(on: Served) -> None:
        assert error(await create(on, "kk", a="b"))[0] == 400
        assert (await create(on, "k_k!")).status_code == 201
        assert error(await create(on, "a b"))[0] == 400
        told = "kafka cluster 'k_k!' already exists in schema registry"
        assert error(await create(on, "k_k!")) == (409, told)
        told = "The requested Kafka cluster 'x' does not exist"
        assert error(await on.admin.get("/kafka-clusters/x")) == (404, told)
        response = await on.admin.patch("/kafka-clusters/x", json={"properties": BROKERS})
        told = "not found in the schema registry: kafka cluster 'x'"
        assert error(response) == (404, told)
        told = "not found in the schema registry: kafka cluster named 'x'"
        assert error(await on.admin.delete("/kafka-clusters/x")) == (404, told)

    served(test)


def test_a_subscription_shows_its_options_with_their_defaults() -> None:
    async def test(on: Served) -> None:
        await create(on)
        response = await subscribe(on, options={"x": "y"})
        made = response.json()
        assert response.status_code == 201
        assert response.headers["location"] == f"subscriptions/{made['id']}"
        assert made == {
            "id": made["id"],
            "source": "kafka://kk/topic",
            "sink": "service://Greeter/greet",
            "options": {"group.id": made["id"], "client.id": "restate", "x": "y"},
        }
        assert (await on.admin.get(f"/subscriptions/{made['id']}")).json() == made
        url = "/kafka-clusters/kk?include_subscriptions=true"
        assert (await on.admin.get(url)).json()["subscriptions"] == [made]
        again = (await subscribe(on, sink="service://Flow/run", options={"group.id": "g"})).json()
        assert again["options"]["group.id"] == "g"
        for query, found in (
            ({}, [made, again]),
            ({"sink": "service://Flow/run"}, [again]),
            ({"source": "kafka://kk/topic", "sink": "x"}, []),
        ):
            listed = await on.admin.get("/subscriptions", params=query)
            assert listed.json() == {"subscriptions": found}

    served(test)


def test_a_cluster_with_subscriptions_is_removed_by_force_alone() -> None:
    async def test(on: Served) -> None:
        await create(on)
        id = (await subscribe(on)).json()["id"]
        told = (
            f"Removing the kafka cluster 'kk' leads to subscription '{id}' being orphan. Remove the "
            "subscription first, or use the 'force' flag."
        )
        assert error(await on.admin.delete("/kafka-clusters/kk")) == (409, told)
        response = await on.admin.delete("/kafka-clusters/kk?force=true")
        assert response.status_code == 202
        assert (await on.admin.get("/subscriptions")).json() == {"subscriptions": []}

    served(test)


def test_a_subscription_is_removed() -> None:
    async def test(on: Served) -> None:
        await create(on)
        id = (await subscribe(on)).json()["id"]
        assert (await on.admin.delete(f"/subscriptions/{id}")).status_code == 202
        told = f"The requested subscription '{id}' does not exist"
        assert error(await on.admin.delete(f"/subscriptions/{id}")) == (404, told)
        assert error(await on.admin.get(f"/subscriptions/{SUBSCRIPTION}"))[0] == 404
        status, message = text(await on.admin.get("/subscriptions/bad"))
        assert status == 400
        assert message.startswith("Invalid URL: Cannot parse `bad` to a `SubscriptionId`: ")

    served(test)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"source": "kafka://nope/topic"}, None),
        ({"source": "http://kk/topic"}, "META0009"),
        ({"source": "kafka://kk"}, "META0009"),
        ({"source": "kafka://[kk/topic"}, "META0009"),
        ({"sink": "service://Greeter/nope"}, "META0009"),
        ({"sink": "service://Nobody/greet"}, "META0009"),
        ({"sink": "kafka://Greeter/greet"}, "META0009"),
        ({"sink": "service://Greeter/secret"}, "META0009"),
    ],
)
def test_a_bad_subscription_is_refused(more: dict[str, str], code: str | None) -> None:
    async def test(on: Served) -> None:
        await create(on)
        response = await subscribe(on, **more)
        assert (response.status_code, response.json()["restate_code"]) == (400, code)
        if code is None:
            told = "Kafka cluster 'nope' not found. Available clusters: [\"kk\"]"
            assert response.json()["message"] == told

    served(test)


def test_there_are_limits_of_clusters_and_subscriptions() -> None:
    clusters = tuple(Cluster(str(i), BROKERS, 1) for i in range(1000))
    with pytest.raises(DeploymentRefused):
        kafka.create_cluster(Book(clusters=clusters), kafka.ClusterBody("more", BROKERS), 1)
    fed = tuple(Subscription(str(i), "0", "t", "Greeter", "greet") for i in range(1000))
    body = kafka.SubscriptionBody("kafka://0/t", "service://Greeter/greet")
    with pytest.raises(DeploymentRefused):
        kafka.create_subscription(
            Book(clusters=clusters, subscriptions=fed), body, SUBSCRIPTION, example_services()
        )


def test_a_large_body_is_refused() -> None:
    async def test(on: Served) -> None:
        assert text(await create(on, **BROKERS, x="x" * 70_000))[0] == 413

    served(test)


# ---- kept ----------------------------------------------------------------------------------------


def test_the_book_is_read_as_it_was_written(tmp_path: Path) -> None:
    book = Book(
        (Rule("a", 1, "why", True, 2, 3),),
        4,
        (Cluster("kk", BROKERS, 5),),
        (Subscription(SUBSCRIPTION, "kk", "t", "S", "h", {"x": "y"}),),
    )
    BookFile(str(tmp_path)).write(book)
    assert OperatorBook(BookFile(str(tmp_path))).book == book
    content = (tmp_path / "operators.msgpack").read_bytes()
    assert content[:12] == b"PERDUROP" + bytes((0, 0, 0, 1))
