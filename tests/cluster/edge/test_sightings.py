"""What arrives, by name: every event counted once, with its models; memory bounded; samples without keys."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.admission.decoder import Decoder
from cluster.admission.plan import EventPlan
from cluster.admission.timestamps import Format
from cluster.edge import learning, sightings
from cluster.edge.sightings import Sightings, merge_reports
from tests.cluster.admission.building import envelope, model, plan_of

NOW_MS = 1_764_518_400_000


class Clock:
    now_ms = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


def counted(plan: EventPlan, *batches: pa.RecordBatch, clock: Callable[[], int] | None = None) -> Sightings:
    """Count batches as an edge does."""

    async def run() -> Sightings:
        seen = Sightings(clock or Clock())
        decoder = Decoder(plan)
        for batch in batches:
            seen.take(plan, batch, decoder.decode(batch))
        seen.count()
        return seen

    return asyncio.run(run())


def rows(seen: Sightings) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["type"], row["name"]): row for row in seen.report()["events"]}


def track(name: Any, user: Any = "u", **more: Any) -> dict[str, Any]:
    return {"type": "track", "event": name, "user_id": user, **more}


PLAN = plan_of(
    model("order", event="order"), model("order_by_key", event="order", foreign_key="properties.key"),
    model("any_page", type="page"), model("home", type="page", event="home"),
)  # fmt: skip


def test_events_are_counted_by_name_with_the_models_that_take_them_and_why_others_are_not() -> None:
    batch = envelope(
        track("order"), track("order", properties={"key": "k"}), track("order", user=None), track("view"),
        {"type": "page", "event": "home", "user_id": "u"}, {"type": "page", "event": "about", "user_id": "u"},
        {"user_id": "u"}, track(["x"]),
    )  # fmt: skip
    found = rows(counted(PLAN, batch))
    assert {key: (row["count"], row["models"], row["rejected"]) for key, row in found.items()} == {
        ("track", "order"): (3, ["order", "order_by_key"], {"no_key": 1}),
        ("track", "view"): (1, [], {"no_model": 1}),
        ("page", "home"): (1, ["home"], {}),
        ("page", "about"): (1, ["any_page"], {}),
        ("", ""): (1, [], {"no_model": 1}),
        ("track", ""): (1, [], {"no_model": 1}),
    }


names = st.sampled_from(["order", "view", "home", "", "x" * 300])
kinds = st.sampled_from(["track", "page", "identify"])
events = st.builds(
    lambda kind, name, user, key: {"type": kind, "event": name, "user_id": user, "properties": {"key": key}},
    kinds, names, st.sampled_from(["u", None]), st.sampled_from(["k", None]),
)  # fmt: skip


@given(st.lists(st.lists(events, max_size=6), max_size=4))
def test_every_event_is_counted_once(batches: list[list[dict[str, Any]]]) -> None:
    found = rows(counted(PLAN, *(envelope(*batch) for batch in batches)))
    wanted = Counter((event["type"], event["event"][:200]) for batch in batches for event in batch)
    assert {key: row["count"] for key, row in found.items()} == wanted


def test_pages_of_sdks_are_named_by_their_name() -> None:
    batch = envelope({"type": "page", "name": "Home", "userId": "u"}, fmt=Format.SEGMENT)
    assert list(rows(counted(PLAN, batch))) == [("page", "Home")]


def test_names_beyond_the_bound_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sightings, "NAMES_MAX", 3)
    seen = counted(PLAN, envelope(*(track(f"e{i}") for i in range(10))))
    report = seen.report()
    assert len(report["events"]) == 3
    assert report["others"] == 7


def test_a_rate_is_that_of_the_last_minute() -> None:
    clock = Clock()

    async def run() -> list[float]:
        seen, decoder, rates = Sightings(clock), Decoder(PLAN), []
        batch = envelope(*(track("view") for _ in range(100)))
        for _ in range(30):
            seen.take(PLAN, batch, decoder.decode(batch))
            seen.count()
            rates.append(rows(seen)["track", "view"]["per_s"])
            clock.now_ms += 10_000
        clock.now_ms += 600_000
        rates.append(rows(seen)["track", "view"]["per_s"])
        return rates

    rates = asyncio.run(run())
    assert rates[0] == 100
    assert all(9 <= rate <= 13 for rate in rates[8:30])
    assert rates[-1] == 0


def test_the_last_sample_has_no_write_key_and_large_ones_are_left_out() -> None:
    batch = envelope(
        track("view", writeKey="secret"), track("big", properties={"x": "y" * 20_000}), b'{"type": "track"'
    )
    found = rows(counted(PLAN, batch))
    assert found["track", "view"]["sample"] == track("view")
    assert found["track", "big"]["sample"] is None


def test_samples_are_looked_at_a_few_at_once_and_then_now_and_then() -> None:
    clock = Clock()

    async def run() -> list[int]:
        seen, decoder, samples = Sightings(clock), Decoder(PLAN), []
        batch = envelope(track("view"))
        for step in range(60):
            seen.take(PLAN, batch, decoder.decode(batch))
            seen.count()
            samples.append(rows(seen)["track", "view"]["samples"])
            clock.now_ms += 100 if step < 40 else 1_000
        return samples

    samples = asyncio.run(run())
    assert samples[19] == 20
    assert 21 <= samples[40] <= 23
    assert samples[-1] == samples[40] + 19


def test_fields_are_learned_with_their_types_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "FIELDS_MAX", 8)
    first = track("view", properties={
        "n": 1, "s": "x", "b": True, "at": "2026-11-23T10:00:00Z", "l": ["a"], "cart": {"total": 2.5}, "a.b": 1,
        "none": None,
    })  # fmt: skip
    second = track("view", user=7, anonymous_id="a", properties={"n": "1", **{f"x{i}": 1 for i in range(20)}})
    fields = rows(counted(PLAN, envelope(first), envelope(second)))["track", "view"]["fields"]
    assert {field["path"]: (field["types"], field["share"]) for field in fields} == {
        "user_id": ({"string": 1, "number": 1}, 1.0), "properties.n": ({"number": 1, "string": 1}, 1.0),
        "properties.s": ({"string": 1}, 0.5), "properties.b": ({"boolean": 1}, 0.5),
        "properties.at": ({"timestamp": 1}, 0.5), "properties.l": ({"list": 1}, 0.5),
        "properties.cart.total": ({"number": 1}, 0.5), "anonymous_id": ({"string": 1}, 0.5),
    }  # fmt: skip


def test_reports_of_several_processes_are_one() -> None:
    one = counted(PLAN, envelope(track("view"), track("order")))
    other = counted(PLAN, envelope(track("view", properties={"n": 1}), track("view"), b"nothing"))
    other.unreadable(2)
    whole = merge_reports([one.report(), other.report()])
    assert [(row["name"], row["count"]) for row in whole["events"]] == [("view", 3), ("order", 1)]
    assert whole["unreadable"] == 3
    assert whole["events"][0]["rejected"] == {"no_model": 3}
    assert {"path": "properties.n", "types": {"number": 1}, "share": 0.333} in whole["events"][0]["fields"]
    assert merge_reports([])["events"] == []


def test_broken_contracts_are_counted_by_model_and_rule() -> None:
    own = model("order", event="order", columns={"n": ("properties.n", "number")}, contract={"required": ["n"]})
    seen = counted(
        plan_of(own), envelope(track("order"), track("order")), envelope(track("order", properties={"n": 1}))
    )
    report = seen.report()
    assert report["violations"] == {"order": {"mode": "warn", "rules": {"n is missing": 2}}}
    whole = merge_reports([report, report])["violations"]
    assert whole == {"order": {"mode": "warn", "rules": {"n is missing": 4}}}
