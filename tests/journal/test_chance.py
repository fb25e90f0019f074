"""Random bytes in bulk: the right sizes, and nothing handed out twice."""

from perdure.journal.chance import SystemChance


def test_draws_have_their_size_and_do_not_repeat() -> None:
    draw = SystemChance()
    drawn = [draw(size) for size in (12, 8, 16) * 2000]
    assert [len(each) for each in drawn] == [12, 8, 16] * 2000
    assert len(set(drawn)) == len(drawn)


def test_a_large_draw_is_one_piece() -> None:
    assert len(SystemChance()(100_000)) == 100_000
