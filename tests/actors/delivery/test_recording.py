"""Records of changes, and what is told of users whose identifiers change, appear or vanish."""

from __future__ import annotations

from typing import Any

from actors.delivery.changes import IDENTIFIERS, RESYNC, Change, Told
from actors.delivery.plans import SyncPlan
from actors.delivery.recording import Recorded, record
from tests.actors.delivery.test_plans import planned

NOW_MS = 5_000
MAIL = {"identifiers": {"mail": "email", "id": "user_id"}}
OLD = Told(True, 3, 1_000, 2, {"mail": "old@x", "id": "u"}, 1_000)


def change(user: str = "u", kind: str = "entered", cause: str = "event", at_ms: int = 1_000) -> Change:
    return Change(0, 1, "hide_promo", 3, user, kind, at_ms, 2, cause)  # type: ignore[arg-type]


def made(
    *changes: Change, plan: SyncPlan | None = None, known: dict[str, Told] | None = None, **columns: list[Any]
) -> Recorded:
    return record(plan or planned(sync=MAIL), changes, columns, known or {}, NOW_MS)


def said(recorded: Recorded) -> list[tuple[str, str, dict[str, Any], str]]:
    return [(each.verb, each.kind, each.identifiers, each.cause) for each in recorded.records]


def test_a_record_carries_the_transition_and_its_values() -> None:
    plan = planned(sync={"identifiers": {"id": "user_id"}, "traits": ("ltv", "tags")})

    recorded = made(change(), plan=plan, ltv=[1.5], tags=[["a"]])
    (one,) = recorded.records

    assert recorded.dropped == {}
    assert recorded.told == {}
    assert (one.audience_version, one.at_ms, one.n, one.identifiers) == (3, 1_000, 2, {"id": "u"})
    assert one.traits == {"ltv": 1.5, "tags": ["a"]}
    assert len(one.transition_id) == 32


def test_a_missing_or_empty_identifier_drops_the_record_and_a_missing_trait_is_null() -> None:
    plan = planned(sync={"identifiers": {"mail": "email"}, "traits": ("ltv",)})

    recorded = made(change("a"), change("b"), change("c"), plan=plan, email=[None, "x@y", ""], ltv=[1.0, None, 2.0])

    assert recorded.dropped == {0: "no value for an identifier: mail", 2: "no value for an identifier: mail"}
    assert [(each.user_id, each.traits) for each in recorded.records] == [("b", {"ltv": None})]
    assert plan.columns == ("email", "ltv")
    assert {user: told.identifiers for user, told in recorded.told.items()} == {"a": {}, "b": {"mail": "x@y"}, "c": {}}


def test_an_exit_removes_what_was_added_whatever_the_columns_hold_by_then() -> None:
    for email in ("new@x", None):
        recorded = made(change(kind="exited"), known={"u": OLD}, email=[email])
        assert said(recorded) == [("remove", "exited", OLD.identifiers, "event")]
        assert not recorded.told["u"].inside


def test_an_exit_of_somebody_never_told_of_goes_by_the_columns() -> None:
    assert said(made(change(kind="exited"), email=["a@x"])) == [
        ("remove", "exited", {"mail": "a@x", "id": "u"}, "event")
    ]


def test_an_exit_of_whom_nothing_was_sent_is_dropped_with_the_reason() -> None:
    nothing = Told(True, 3, 1_000, 2, {}, 1_000)

    recorded = made(change(kind="exited"), known={"u": nothing}, email=["late@x"])
    assert recorded.records == []
    assert recorded.dropped == {0: "nothing of the user was sent"}


def test_an_identifier_that_changes_is_removed_and_added_anew_under_the_entrys_id() -> None:
    recorded = made(change(cause=IDENTIFIERS), known={"u": OLD}, email=["new@x"])

    assert said(recorded) == [
        ("remove", "entered", {"mail": "old@x"}, IDENTIFIERS),
        ("add", "entered", {"mail": "new@x", "id": "u"}, IDENTIFIERS),
    ]
    assert len({each.transition_id for each in recorded.records}) == 1
    assert recorded.told["u"].identifiers == {"mail": "new@x", "id": "u"}


def test_an_identifier_that_appears_late_is_added_and_one_that_vanishes_removed() -> None:
    none = Told(True, 3, 1_000, 2, {}, 1_000)
    late = made(change(cause=IDENTIFIERS), known={"u": none}, email=["late@x"])
    gone = made(change(cause=IDENTIFIERS), known={"u": OLD}, email=[None])

    assert said(late) == [("add", "entered", {"mail": "late@x", "id": "u"}, IDENTIFIERS)]
    assert said(gone) == [("remove", "entered", OLD.identifiers, IDENTIFIERS)]
    assert gone.told["u"].identifiers == {}
    assert gone.dropped == {}


def test_identifiers_that_did_not_change_and_those_of_who_left_tell_nothing() -> None:
    left = Told(False, 3, 1_000, 2, {}, 1_000)

    for known, email in (({"u": OLD}, "old@x"), ({"u": left}, "new@x"), ({}, "new@x")):
        recorded = made(change(cause=IDENTIFIERS), known=known, email=[email])
        assert (recorded.records, recorded.told) == ([], {})


def test_later_changes_of_a_batch_stand_on_the_earlier_ones() -> None:
    recorded = made(change(), change(kind="exited", at_ms=2_000), change(at_ms=3_000), email=["a@x", "b@x", "b@x"])

    assert [(verb, ids["mail"]) for verb, _, ids, _ in said(recorded)] == [
        ("add", "a@x"), ("remove", "a@x"), ("add", "b@x"),
    ]  # fmt: skip


def test_a_resync_tells_again_and_removes_only_whom_nobody_told_of_since() -> None:
    again = made(change(cause=RESYNC), known={"u": OLD}, email=["old@x"])
    stray = made(change(kind="exited", cause=RESYNC, at_ms=2_000), known={"u": OLD}, email=["old@x"])
    seen = made(change(kind="exited", cause=RESYNC, at_ms=1_000), known={"u": OLD}, email=["old@x"])

    assert said(again) == [("add", "entered", OLD.identifiers, RESYNC)]
    assert again.told["u"].seen_ms == NOW_MS
    assert [verb for verb, *_ in said(stray)] == ["remove"]
    assert seen.records == []


def test_on_exit_nothing_sends_no_exit_and_yet_knows_who_left() -> None:
    recorded = made(
        change(kind="exited"), plan=planned(sync={**MAIL, "on_exit": "nothing"}), known={"u": OLD}, email=["x@y"]
    )

    assert (recorded.records, recorded.dropped) == ([], {})
    assert not recorded.told["u"].inside
