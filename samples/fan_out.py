"""Fan out, gather: one call for each text, all at once; the sum when the last one has answered.

    perdure up samples/fan_out.py
    curl localhost:8080/Words/count_all --json '["to be or not", "to be"]'
    # {"to": 2, "be": 2, "or": 1, "not": 1}

A crash in the middle does not repeat the calls that have answered.
"""

from collections import Counter

import perdure

words = perdure.Service("Words")


@words.handler()
async def count(ctx: perdure.Context, text: str) -> dict[str, int]:
    return Counter(text.split())


@words.handler()
async def count_all(ctx: perdure.Context, texts: list[str]) -> dict[str, int]:
    calls = [ctx.service_call(count, text) for text in texts]  # all of them are on their way
    total: Counter[str] = Counter()
    for each in await perdure.gather(*calls):
        total.update(await each)
    return total


app = perdure.app([words])
