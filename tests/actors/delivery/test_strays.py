"""A resync removes whoever is at the destination and in nobody's audience, where the destination lists its members."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from actors.delivery.strays import _lines_of, _pages
from cluster.definitions.model import Column, Definitions, Destination, Sync
from cluster.runtime.protocols import LogQuery
from destinations.iterable.definition import IterableDestination
from destinations.iterable.settings import IterableSettings
from destinations.listing import UnreadableListing
from destinations.records import SyncShape
from destinations.registry import KINDS
from tests.actors.delivery.asking import begun, delivered_is, eventually, sync_of
from tests.actors.delivery.world import AUDIENCE, InProcessController, InProcessEvaluator, definitions, started
from tests.destinations.amplitude.server import AmplitudeServer
from tests.destinations.iterable.server import IterableServer, error
from tests.destinations.vendor import Came, Says


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.delivery.upkeep._LOOK_S", 0.01)
    monkeypatch.setattr("actors.delivery.retries.RETRY_BASE_MS", 10)
    monkeypatch.setattr("destinations.amplitude.listing.LOOK_EVERY_MS", 10)


def asked(kind: str, own: dict[str, Any], server: Any, **sync: Any) -> Definitions:
    base = definitions("https://example.org/hook", columns={"email": Column("email", "string", pii=True)})
    settings = KINDS[kind].settings_model.model_validate({**own, "base_url": server.url, "allow_private": True})
    fields = {"deliver": "state", "batch_age_ms": 5, **sync}
    return replace(
        base,
        destinations={"list": Destination("list", kind, settings)},
        syncs={"promo": Sync("promo", AUDIENCE, "list", **fields)},
    )


def iterable(server: IterableServer, **sync: Any) -> Definitions:
    own = {"api_key": server.key, "rate_limit": "1000/s"}
    return asked("iterable", own, server, **{"identifiers": {"email": "user_id"}, **sync})


def amplitude(server: AmplitudeServer, **sync: Any) -> Definitions:
    own = {"api_key": server.api_key, "secret_key": server.secret_key, "app_id": 1, "owner": "a@b.co"}
    return asked("amplitude", own, server, **{"identifiers": {"external_id": "user_id"}, **sync})


def ours(server: IterableServer) -> set[str]:
    """Members of our list; the other one is somebody else's."""
    (id_,) = [id_ for id_, shown in server.shown.items() if shown["name"] != "Newsletter"]
    return server.lists[id_]


async def resynced(actor: Any) -> None:
    assert "began_at" in await actor.resync("promo")

    async def over() -> bool:
        return not (await sync_of(actor))["resyncing"]

    await eventually(over)


async def outcomes(actor: Any, **query: Any) -> list[tuple[str, int, str]]:
    rows = (await actor.sync_log("promo", LogQuery(limit=500, **query)))["rows"]
    return [(row["outcome"], row["count"], row["reason"]) for row in rows]


class Busy(IterableServer):
    """While it lists, people come and go."""

    def __init__(self, evaluator: InProcessEvaluator, flips: tuple[str, ...]) -> None:
        super().__init__()
        self._evaluator = evaluator
        self._flips = flips

    def _list(self, came: Came) -> Says:
        says = super()._list(came)
        for user in self._flips:
            self._evaluator.flip(user)
        self._flips = ()
        return says


def address(number: int) -> str:
    return f"user{number}@example.org"


@pytest.mark.parametrize("remembers", [False, True])
def test_strays_go_members_stay_and_who_comes_while_it_lists_stays_too(tmp_path: Path, remembers: bool) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        for number in range(50):
            evaluator.flip(address(number))
        async with Busy(evaluator, (address(60), address(3), address(70))) as server:
            more = {"on_delete": "remove"} if remembers else {}
            actor = await started(tmp_path, InProcessController(iterable(server, batch_size=20, **more)), evaluator)
            await eventually(lambda: delivered_is(actor, 50))
            # By hand; one of them enters the audience while the list is read, and was in the list already.
            by_hand = {f"stray{number}@example.org" for number in range(1_100)} | {address(60), "no address"}
            ours(server).update(by_hand)
            server.users.update(by_hand)
            server.faults.extend([None] * 4 + [Says(503, b""), error(429, "RateLimitExceeded", "")])
            await resynced(actor)

            wanted = {address(number) for number in [*range(50), 60, 70] if number != 3}

            async def fits() -> bool:
                return ours(server) == wanted

            await eventually(fits)
            gone = await outcomes(actor, outcomes=("stray",))
            assert sum(count for _, count, _ in gone) in (1_101, 1_102), "a stray that enters meanwhile may be one"
            assert server.lists[937_227] == set(), "the other list is not touched"
            assert "stray7@" not in str(await actor.sync_log("promo", LogQuery(limit=500, detail=True)))
            await actor.drain()

    asyncio.run(run())


def test_a_cohort_is_listed_by_a_file_that_lies_elsewhere_and_who_has_no_user_id_goes_too(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        for number in range(30):
            evaluator.flip(f"user{number}")
        users = {f"user{number}" for number in range(100)} | {"4711"}
        async with AmplitudeServer(users=users) as server:
            server.small_max, server.looks = 20, 2
            actor = await started(tmp_path, InProcessController(amplitude(server)), evaluator)
            await eventually(lambda: delivered_is(actor, 30))
            (cohort,) = server.cohorts.values()
            cohort.update({"user77", "user88", "4711"})
            cohort.discard("user5")
            await resynced(actor)

            assert cohort == {f"user{number}" for number in range(30)}
            assert sorted(await outcomes(actor, outcomes=("stray",))) == [
                ("stray", 1, "in the list and no member"), ("stray", 2, "in the list and no member"),
            ]  # fmt: skip
            server.small_max = 1_000
            cohort.add("user99")
            await resynced(actor)
            assert cohort == {f"user{number}" for number in range(30)}
            assert len(server.listings) == 2, "one file a resync"
            await actor.drain()

    asyncio.run(run())


def test_a_listing_that_lacks_the_members_is_not_believed(tmp_path: Path) -> None:
    class Strange(IterableServer):
        def _list(self, came: Came) -> Says:
            super()._list(came)
            return Says(200, b"".join(f"hash{number}\n".encode() for number in range(40)), {})

    async def run() -> None:
        evaluator = InProcessEvaluator()
        for number in range(20):
            evaluator.flip(address(number))
        async with Strange() as server:
            actor = await started(tmp_path, InProcessController(iterable(server)), evaluator)
            await eventually(lambda: delivered_is(actor, 20))
            await resynced(actor)

            reason = "strays are not removed: of 20 members the listing has 0: nobody is removed by it"
            assert await outcomes(actor, failed=True) == [("refused", 0, reason)]
            assert len(ours(server)) == 20
            await actor.drain()

    asyncio.run(run())


def test_a_key_that_may_not_list_ends_the_resync_with_the_reason(tmp_path: Path) -> None:
    class Refusing(IterableServer):
        def _list(self, came: Came) -> Says:
            return error(403, "Forbidden", "no permission")

    async def run() -> None:
        evaluator = InProcessEvaluator()
        evaluator.flip(address(1))
        async with Refusing() as server:
            actor = await started(tmp_path, InProcessController(iterable(server)), evaluator)
            await eventually(lambda: delivered_is(actor, 1))
            await resynced(actor)

            (asked, (word, _, reason)) = await outcomes(actor, failed=True, kinds=("list",))
            assert (asked[0], word) == ("credentials", "refused")
            assert reason == "strays are not removed: status 403, Forbidden: the API key is refused"
            assert (await sync_of(actor))["state"] == "running", "what may not list may still add"
            await actor.drain()

    asyncio.run(run())


def test_a_kill_in_the_middle_forgets_nobody_who_was_told_of(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        for number in range(40):
            evaluator.flip(address(number))
        async with IterableServer() as server:
            controller = InProcessController(iterable(server, batch_size=4))
            first = await started(tmp_path, controller, evaluator)
            await eventually(lambda: delivered_is(first, 40))
            ours(server).add("stray@example.org")
            server.users.add("stray@example.org")
            before = len(server.came)
            await first.resync("promo")

            async def begun() -> bool:
                return len(server.came) > before + 2

            await eventually(begun)
            await first.abandon()
            second = await started(tmp_path, controller, evaluator)

            async def over() -> bool:
                return not (await sync_of(second)).get("resyncing", True)

            await eventually(over)
            assert ours(server) == {address(number) for number in range(40)}
            await second.drain()

    asyncio.run(run())


@pytest.mark.parametrize("sync", [{"on_exit": "nothing"}], ids=["on_exit"])
def test_where_leavers_stay_strays_do(tmp_path: Path, sync: dict[str, Any]) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        for number in range(3):
            evaluator.flip(address(number))
        async with IterableServer() as server:
            actor = await started(tmp_path, InProcessController(iterable(server, **sync)), evaluator)
            await eventually(lambda: delivered_is(actor, 3))
            evaluator.flip(address(1))
            reply = await actor.resync("promo")
            assert reply["strays"] == "with on_exit: nothing whoever leaves stays there"
            await resynced(actor)
            assert ours(server) == {address(number) for number in range(3)}
            assert not any(came.path.endswith("getUsers") for came in server.came)
            await actor.drain()

    asyncio.run(run())


def test_hybrid_projects_are_listed_by_the_one_name_that_users_are_told_by() -> None:
    kind = IterableDestination()
    settings = IterableSettings.model_validate({"api_key": "k", "project": "hybrid"})

    def shape(*fields: str) -> SyncShape:
        return SyncShape("promo", "vip", "VIPs", frozenset(fields), "remove", "state")

    by_id, by_email = kind.listing(settings, shape("external_id")), kind.listing(settings, shape("email"))
    assert by_id is not None
    assert by_email is not None
    assert (by_id.form, by_email.form) == ("userId", "email")
    assert list(by_id.read(["U-1\n", "a@Example.org\n", "\n"])) == ["U-1", "a@Example.org"]
    assert list(by_email.read(["U-1\n", "A@Example.org\n"])) == ["U-1", "a@example.org"]
    assert by_id.stray("a@Example.org") == {"email": "a@Example.org"}
    assert by_email.stray("U-1") == {"userId": "U-1"}
    assert kind.listing(settings, shape("external_id", "email")) is None
    assert "hybrid" in kind.strays_reason(settings, shape("external_id", "email"))


def test_a_listing_of_any_length_is_read_in_a_page_of_memory(tmp_path: Path) -> None:
    path = tmp_path / "listing"
    with path.open("wb") as file:
        file.writelines(f"somebody.{number}@example.org\n".encode() for number in range(200_000))
    shape = SyncShape("s", "a", "A", frozenset({"email"}), "remove", "state")
    listing = IterableDestination().listing(IterableSettings.model_validate({"api_key": "k"}), shape)
    assert listing is not None
    with path.open("rb") as file:
        tracemalloc.start()
        try:
            count = sum(len(page) for page in _pages(listing.read(_lines_of(file))))
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert count == 200_000
    assert peak_bytes < 2_000_000


BROKEN = {
    "no gzip": b"\x1f\x8b\x08\x00 broken", "cut short": gzip.compress(b"a@b.co\n", mtime=0)[:-9],
    "no text": b"\xff\xfe", "a line without end": b"x" * 70_000,
}  # fmt: skip


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN)
def test_what_is_no_text_is_no_listing(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "listing"
    path.write_bytes(raw)
    with path.open("rb") as file, pytest.raises(UnreadableListing):
        list(_lines_of(file))


def test_a_status_that_brings_no_listing_is_asked_again_and_nobody_to_list_is_a_listing(tmp_path: Path) -> None:
    class Late(IterableServer):
        def _list(self, came: Came) -> Says:
            super()._list(came)
            return Says(202, b"later") if self.listings_left > 3 else Says(204, b"")

    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with Late() as server:
            actor = await started(tmp_path, InProcessController(iterable(server)), evaluator)
            await eventually(lambda: begun(actor))
            await resynced(actor)
            assert server.listings_left == 3
            assert [word for word, _, _ in await outcomes(actor, failed=True)] == []
            await actor.drain()

    asyncio.run(run())


def test_a_resync_that_nobody_asked_for_lists_nobody(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        for number in range(3):
            evaluator.flip(address(number))
        async with IterableServer() as server:
            controller = InProcessController(iterable(server))
            actor = await started(tmp_path, controller, evaluator)
            await eventually(lambda: delivered_is(actor, 3))
            ours(server).add("by.hand@example.org")
            controller.publish(iterable(server, on_delete="remove"))

            async def told() -> bool:
                return any("began by itself" in reason for _, _, reason in await outcomes(actor, kinds=("list",)))

            await eventually(told)
            assert "by.hand@example.org" in ours(server)
            assert not any(came.path.endswith("getUsers") for came in server.came)
            await actor.drain()

    asyncio.run(run())
