from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from actors.delivery.cutting import cut_records

ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["add", "remove"]), st.integers(1, 9)))


@given(ROWS, st.integers(1, 4), st.one_of(st.none(), st.integers(9, 20)))
def test_groups_fit_hold_one_key_and_keep_each_users_order(
    rows: list[tuple[str, str, int]], records_max: int, bytes_max: int | None
) -> None:
    users, keys, sizes = ([row[part] for row in rows] for part in range(3))
    groups = cut_records(users, keys, sizes, records_max=records_max, bytes_max=bytes_max)  # type: ignore[arg-type]

    order = [index for _, indexes in groups for index in indexes]
    assert sorted(order) == list(range(len(rows)))
    for user in set(users):
        mine = [index for index in order if users[index] == user]
        assert mine == sorted(mine)
    for key, indexes in groups:
        assert 1 <= len(indexes) <= records_max
        assert {keys[index] for index in indexes} == {key}
        assert bytes_max is None or sum(sizes[index] for index in indexes) <= bytes_max  # type: ignore[misc]


def test_other_users_between_do_not_make_more_requests() -> None:
    keys = ["add", "remove"] * 4
    groups = cut_records([str(n) for n in range(8)], keys, [1] * 8, records_max=9, bytes_max=None)

    assert [key for key, _ in groups] == ["add", "remove"]
