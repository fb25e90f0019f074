"""A saga: what was booked is cancelled again, last first, when a later step cannot be done.

    perdure up samples/trip.py
    curl localhost:8080/Trip/book --json '{"traveller": "Ada", "to": "Rome"}'    # "flight, hotel, car"
    curl localhost:8080/Trip/book --json '{"traveller": "Ada", "to": "Venice"}'

Venice has no cars: the second one answers 409, and the server prints how hotel and flight are
cancelled. Kill it in between: the compensations that are left happen after the restart.
"""

from dataclasses import dataclass

import perdure

trip = perdure.Service("Trip")


@dataclass
class Journey:
    traveller: str
    to: str


def book_one(what: str, journey: Journey, booking: str) -> None:
    """Stands for a travel agency, which knows by ``booking`` when it is asked a second time."""
    if (what, journey.to) == ("car", "Venice"):
        raise perdure.TerminalError("there are no cars in Venice", status_code=409)
    print(f"booked {what} to {journey.to} for {journey.traveller} ({booking})", flush=True)


def cancel_one(what: str, booking: str) -> None:
    """Cancels what was booked; a booking that never came to be is none to cancel."""
    print(f"cancelled {what} ({booking})", flush=True)


@trip.handler()
async def book(ctx: perdure.Context, journey: Journey) -> str:
    booking = str(ctx.uuid())  # the same in every attempt
    begun: list[str] = []
    try:
        for what in ("flight", "hotel", "car"):
            begun.append(what)
            await ctx.run_typed(
                f"book {what}", book_one, perdure.RunOptions(), what, journey, booking
            )
    except perdure.TerminalError:  # any other error is retried
        for what in reversed(begun):
            await ctx.run_typed(f"cancel {what}", cancel_one, perdure.RunOptions(), what, booking)
        raise
    return ", ".join(begun)


app = perdure.app([trip])
