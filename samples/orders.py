"""An exactly-once order pipeline: 2,000 orders from a file, through objects that survive a kill.

    python samples/orders.py

``kill -9`` it in the middle and run it again: it goes on where it was, and stock and charges come out
as if nothing had happened. It keeps all it knows in ./orders-data, and ./orders-ledger.csv stands for
the book of a card network; remove both to start over. The objects can be served, too:

    perdure up samples/orders.py
    curl localhost:8080/Inventory/MUG-S/reserve --json 2         # true
    curl localhost:8080/Inventory/MUG-S/reserve --json 2000      # false
"""
# Twice as long as the other samples, as it reads a real file and checks the result against that file.

import asyncio
import csv
import time
from collections import Counter
from pathlib import Path

import msgspec
from rich.progress import track

import perdure

ORDERS, DATA, LEDGER = Path(__file__).with_name("orders.csv"), "orders-data", "orders-ledger.csv"
AT_ONCE, STOCK, SOLD_OUT = 100, 1_000, ("MUG-XL", "JAR-XS", "CAP-M")

order = perdure.VirtualObject("Order")  # a key is an order id
inventory = perdure.VirtualObject("Inventory")  # a key is a SKU
payment = perdure.VirtualObject("Payment")  # a key is a card token
app = perdure.app([order, inventory, payment])


class Line(msgspec.Struct):
    order_id: str
    customer: str
    sku: str
    quantity: int
    unit_price_cents: int
    card_token: str

    def cents(self) -> int:
        return self.quantity * self.unit_price_cents


@order.handler()
async def place(ctx: perdure.ObjectContext, line: Line) -> str:
    """Once per order, however often its line is in the file or the program is started."""
    if outcome := await ctx.get("outcome", type_hint=str):
        return outcome
    outcome = "out of stock"
    if await ctx.object_call(reserve, line.sku, line.quantity):
        try:
            await ctx.object_call(charge, line.card_token, line)
            outcome = "placed"
        except perdure.TerminalError:  # any other error is retried
            await ctx.object_call(reserve, line.sku, -line.quantity)
            outcome = "declined"
    ctx.set("outcome", outcome)
    return outcome


@inventory.handler()
async def reserve(ctx: perdure.ObjectContext, quantity: int) -> bool:
    """Whether there was enough; a negative quantity goes back on the shelf."""
    reserved = (await ctx.get("reserved", type_hint=int) or 0) + quantity
    if reserved > (0 if ctx.key() in SOLD_OUT else STOCK):
        return False
    ctx.set("reserved", reserved)
    return True


@payment.handler()
async def charge(ctx: perdure.ObjectContext, line: Line) -> None:
    cents = await ctx.run_typed("card network", charge_card, perdure.RunOptions(), line)
    ctx.set(line.order_id, cents)


def charge_card(line: Line) -> int:
    """The effect outside. It never runs again once its result is in the journal; a crash just before
    that repeats it, so the order id goes along: by this token a repetition can be told."""
    if line.card_token.startswith("tok_declined"):
        raise perdure.TerminalError(f"{line.card_token} is declined", status_code=402)
    with open(LEDGER, "a") as ledger:  # O_APPEND, and all of the line in one write
        ledger.write(f"{line.order_id},{line.cents()}\n")
    return line.cents()


async def main() -> None:
    started_s = time.monotonic()
    with ORDERS.open(encoding="utf-8", newline="") as file:
        lines = [msgspec.convert(row, Line, strict=False) for row in csv.DictReader(file)]
    outcomes: dict[str, str] = {}
    async with perdure.open(DATA, app) as system:
        waiting = iter(track(lines, "Orders"))

        async def work() -> None:
            for line in waiting:
                outcomes[line.order_id] = await system.object_call(place, line.order_id, line)

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        stock = {sku: await system.state(inventory, sku) for sku in {line.sku for line in lines}}
        cards = [await system.state(payment, card) for card in {line.card_token for line in lines}]
    units = Counter({sku: int(state.get("reserved", b"0")) for sku, state in stock.items()})
    cents = {order_id: int(value) for state in cards for order_id, value in state.items()}
    ledger = [row.split(",") for row in Path(LEDGER).read_text().splitlines()]
    by_token = {token: int(value) for token, value in ledger}
    print(f"lines    {len(lines):>10,}  {len(lines) - len(outcomes)} of them duplicates")
    print(f"orders   {len(outcomes):>10,}  {dict(sorted(Counter(outcomes.values()).items()))}")
    print(f"units    {units.total():>10,}  for {sum(cents.values()) / 100:,.2f}")
    print(f"charged  {len(by_token):>10,}  {len(ledger) - len(by_token)} sent again, same token")
    print(f"time     {time.monotonic() - started_s:>9.1f}s")
    if (outcomes, units, cents) != expected(lines) or by_token != cents:
        raise SystemExit("WRONG: a plain loop over the file computes something else.")
    print("Exactly what a plain loop over the file computes.")


def expected(lines: list[Line]) -> tuple[dict[str, str], Counter[str], dict[str, int]]:
    """Outcome by order, units by SKU and cents by order, from a loop that nobody interrupts."""
    outcomes: dict[str, str] = {}
    for line in lines:
        declined = line.card_token.startswith("tok_declined")
        outcome = "out of stock" if line.sku in SOLD_OUT else "declined" if declined else "placed"
        outcomes[line.order_id] = outcome
    placed = {line.order_id: line for line in lines if outcomes[line.order_id] == "placed"}
    units = Counter(sku for line in placed.values() for sku in [line.sku] * line.quantity)
    return outcomes, units, {order_id: line.cents() for order_id, line in placed.items()}


if __name__ == "__main__":
    asyncio.run(main())
