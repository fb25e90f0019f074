"""Each sample does what its head says: in a plain run, by replay at every await, and over crashes."""

import asyncio
from typing import Any

import pytest

import perdure
from perdure.pytest_plugin import Durable
from perdure.testing import TestSystem
from samples import (
    approval,
    counter,
    fan_out,
    greeter,
    nightly_report,
    orders,
    reminder,
    signup,
    trip,
)

DAY_S = 86_400


def every_way(durable: Durable, scenario: Any, app: Any) -> None:
    """A plain run, one where every await suspends, and one for each commit with a crash after it."""
    durable(scenario, app)
    durable(scenario, app, always_replay=True)
    assert len(durable.crash_at_every_commit(scenario, app)) > 1


def test_greeter_greets(durable: Durable) -> None:
    async def scenario(system: TestSystem) -> None:
        guest = greeter.Guest("Zoë", times=2)
        assert await system.service_call(greeter.greet, guest) == "Hello, hello, Zoë!"

    every_way(durable, scenario, greeter.app)


def test_counter_counts_each_call_once(durable: Durable) -> None:
    async def scenario(system: TestSystem) -> None:
        totals = [await system.object_call(counter.add, "alice", n) for n in (1, 2, 3)]
        assert totals == [1, 3, 6]
        assert await system.object_call(counter.get, "alice") == 6
        assert await system.object_call(counter.get, "bob") == 0

    every_way(durable, scenario, counter.app)


def test_signup_waits_a_month_for_the_confirmation(durable: Durable) -> None:
    async def scenario(system: TestSystem) -> None:
        await system.workflow_send(signup.run, "ada", "ada@example.org")
        await asyncio.sleep(30 * DAY_S)
        assert await system.object_call(signup.status, "ada") == "waiting"
        await system.object_call(signup.confirm, "ada", True)
        assert await system.workflow_attach(signup.run, "ada") == "ada is a member"
        assert await system.object_call(signup.status, "ada") == "confirmed"

    every_way(durable, scenario, signup.app)


def test_signup_ends_in_a_failure_where_the_address_is_refused(durable: Durable) -> None:
    async def scenario(system: TestSystem) -> None:
        await system.object_call(signup.confirm, "eve", False)  # before the sign-up, even
        with pytest.raises(perdure.HttpError, match="belongs to somebody else") as refused:
            await system.workflow_call(signup.run, "eve", "ada@example.org")
        assert refused.value.status_code == 403
        with pytest.raises(perdure.HttpError) as twice:
            await system.object_call(signup.confirm, "eve", True)
        assert twice.value.status_code == 409

    durable(scenario, signup.app)


def test_trip_books_all_three(durable: Durable) -> None:
    async def scenario(system: TestSystem) -> None:
        journey = trip.Journey("Ada", "Rome")
        assert await system.service_call(trip.book, journey) == "flight, hotel, car"

    every_way(durable, scenario, trip.app)


def test_trip_cancels_what_it_booked_last_first(
    durable: Durable, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario(system: TestSystem) -> None:
        capsys.readouterr()
        with pytest.raises(perdure.HttpError, match="no cars in Venice"):
            await system.service_call(trip.book, trip.Journey("Ada", "Venice"))
        printed = capsys.readouterr().out.splitlines()
        assert len({line.partition("(")[2] for line in printed}) == 1  # one booking number
        acts = [" ".join(line.split()[:2]) for line in printed]
        assert list(dict.fromkeys(acts)) == [  # a crash in a closure repeats it at once
            "booked flight", "booked hotel", "cancelled car", "cancelled hotel", "cancelled flight",
        ]  # fmt: skip

    every_way(durable, scenario, trip.app)


def test_fan_out_counts_the_words_of_all_texts(durable: Durable) -> None:
    async def scenario(system: TestSystem) -> None:
        total = await system.service_call(fan_out.count_all, ["to be or not", "to be", ""])
        assert total == {"to": 2, "be": 2, "or": 1, "not": 1}
        assert await system.service_call(fan_out.count_all, []) == {}

    every_way(durable, scenario, fan_out.app)


def test_reminder_rings_once_after_a_week_though_asked_for_twice(durable: Durable) -> None:
    async def scenario(system: TestSystem) -> None:
        note = reminder.Note("birthday", "Call Grace", 7 * DAY_S)
        await system.object_call(reminder.remind, "ada", note)
        await system.object_call(reminder.remind, "ada", note)
        await asyncio.sleep(6 * DAY_S)
        assert await system.object_call(reminder.rung, "ada") == []
        await asyncio.sleep(2 * DAY_S)
        assert await system.object_call(reminder.rung, "ada") == ["Call Grace"]

    every_way(durable, scenario, reminder.app)


def test_a_shop_reports_every_night_once_by_its_own_clock(durable: Durable) -> None:
    async def scenario(system: TestSystem) -> None:
        await system.object_call(nightly_report.sell, "berlin", nightly_report.Sale("mug", 990))
        await asyncio.sleep(2 * DAY_S)
        assert await system.object_call(nightly_report.reports, "berlin") == [
            "2025-01-01T02:00:00Z: 9.90",
            "2025-01-02T02:00:00Z: 0.00",
        ]
        assert await system.object_call(nightly_report.reports, "tokyo") == [
            "2025-01-01T18:00:00Z: 0.00",
            "2025-01-02T18:00:00Z: 0.00",
        ]

    every_way(durable, scenario, nightly_report.app)


@pytest.mark.parametrize(("answer", "outcome"), [(True, "approved"), (False, "refused")])
def test_approval_is_what_the_boss_says(
    durable: Durable, capsys: pytest.CaptureFixture[str], answer: bool, outcome: str
) -> None:
    async def scenario(system: TestSystem) -> None:
        capsys.readouterr()
        claim = await system.service_send(approval.claim, approval.Claim("Ada", 90))
        await asyncio.sleep(DAY_S)
        awakeable_id = capsys.readouterr().out.split("/")[-2]
        await system.resolve_awakeable(awakeable_id, answer)
        assert await system.attach(claim) == outcome

    every_way(durable, scenario, approval.app)


def test_approval_ends_when_nobody_answers_in_time(durable: Durable) -> None:
    async def scenario(system: TestSystem) -> None:
        claim = approval.Claim("Ada", 90, patience_s=7 * DAY_S)
        assert await system.service_call(approval.claim, claim) == "nobody answered"

    every_way(durable, scenario, approval.app)


@pytest.mark.parametrize(
    ("sku", "card", "outcome", "reserved", "charges"),
    [
        ("MUG-S", "tok_1", "placed", b"2", {"A1": b"998"}),
        ("MUG-S", "tok_declined_1", "declined", b"0", {}),
        ("MUG-XL", "tok_1", "out of stock", None, {}),
    ],
)
def test_order_reserves_charges_and_puts_back_once_over_any_crash(
    durable: Durable,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    sku: str,
    card: str,
    outcome: str,
    reserved: bytes | None,
    charges: dict[str, bytes],
) -> None:
    monkeypatch.chdir(tmp_path)

    async def scenario(system: TestSystem) -> None:
        line = orders.Line("A1", "Nuñez, Jr.", sku, 2, 499, card)
        answers = [await system.object_call(orders.place, "A1", line) for _ in range(2)]
        assert answers == [outcome, outcome]
        assert (await system.state(orders.inventory, sku)).get("reserved") == reserved
        assert await system.state(orders.payment, card) == charges

    every_way(durable, scenario, orders.app)
