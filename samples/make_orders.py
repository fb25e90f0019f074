"""Makes the orders that ``samples/orders.py`` reads: always the same ones, awkward rows included.

    python samples/make_orders.py samples/orders.csv

2,000 orders; some lines are there twice, some cards are declined, some SKUs are out of stock, and
names have commas, quotes and any script.
"""

import csv
import sys
from random import Random

SEED = 2_000
ORDER_COUNT = 2_000
TWICE_COUNT = 37  # lines that a nervous shop system sent again, sooner or later
DECLINED_PERCENT = 6
HEADER = ("order_id", "customer", "sku", "quantity", "unit_price_cents", "card_token")

# fmt: off
FIRST = ("Ada", "Amélie", "Björn", "Chloé", "Đorđe", "Fatima", "Hüseyin", "İpek", "Łukasz", "Nguyễn",
         "Ørjan", "Siobhán", "Tomáš", "山田", "김", "Ольга", "Μαρία")
LAST = ("Lovelace", "Müller", "Nuñez, Jr.", "van der Berg", "D'Angelo", "Żółty", 'Smith "Smitty"', "陽子",
        "민준", "Петрова", "Παπαδοπούλου", "Tanaka, PhD", "Åkesson")
PRODUCTS = ("MUG", "TEE", "CAP", "PEN", "BAG", "KEY", "MAP", "JAR")
# fmt: on


def orders(rng: Random) -> list[tuple[str | int, ...]]:
    skus = [f"{p}-{size}" for p in PRODUCTS for size in ("XS", "S", "M", "L", "XL")]
    price_cents = {sku: rng.randrange(199, 8_999) for sku in skus}
    customers: list[tuple[str, str]] = []
    for _ in range(400):
        kind = "tok_declined" if rng.randrange(100) < DECLINED_PERCENT else "tok"
        name = f"{rng.choice(FIRST)} {rng.choice(LAST)}"
        customers.append((name, f"{kind}_{rng.getrandbits(48):012x}"))
    rows: list[tuple[str | int, ...]] = []
    for n in range(ORDER_COUNT):
        (name, card), sku = rng.choice(customers), rng.choice(skus)
        quantity = rng.choice((1, 1, 1, 2, 2, 3, 5))
        rows.append((f"A{10_000 + n}", name, sku, quantity, price_cents[sku], card))
    for n in sorted(rng.sample(range(ORDER_COUNT), TWICE_COUNT), reverse=True):
        rows.insert(n + rng.choice((1, 2, 60)), rows[n])  # past the end is at the end
    return rows


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([HEADER, *orders(Random(SEED))])
