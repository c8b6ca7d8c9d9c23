"""Every kind through the real actor: a thousand users enter, leave and come back while requests fail and answers are
lost, once over a restart, and at the end the vendor's own list is the audience."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from actors.delivery import retries
from actors.delivery.actor import DeliveryActor
from cluster.definitions.model import Audience, Column, Definitions, Destination, ParentModel, Settings, Sync, TraitTest
from cluster.definitions.model import Test as ModelTest
from destinations.identifiers import sha256_hex
from destinations.registry import KINDS
from tests.actors.delivery.world import AUDIENCE, InProcessController, InProcessEvaluator, started
from tests.destinations.amplitude.server import AmplitudeServer
from tests.destinations.braze.server import BrazeServer
from tests.destinations.facebook.server import FacebookServer
from tests.destinations.google.keys import key_file, private_key
from tests.destinations.google.server import GoogleServer
from tests.destinations.iterable.server import IterableServer
from tests.destinations.segment.server import SegmentServer
from tests.destinations.vendor import Says, Vendor

USERS = 1_000
COLUMNS = {name: Column(name, "string") for name in ("email",)}


def address(user: str) -> str:
    return f"{user}@example.org"


@dataclass(frozen=True)
class Case:
    """A kind with its server: `settings` of the destination, `members` as users of what the server has."""

    kind: str
    server: Callable[[], Any]
    settings: Callable[[Any], dict[str, Any]]
    identifiers: dict[str, str]
    members: Callable[[Any], set[str]]


def users_of(values: set[str], name: Callable[[str], str]) -> set[str]:
    """Give the users whose names these are; a name that is nobody's counts as itself."""
    by_name = {name(f"user_{number}"): f"user_{number}" for number in range(USERS)}
    return {by_name.get(value, value) for value in values}


def google_members(server: GoogleServer) -> set[str]:
    server.settle()
    values = {value for members in server.lists.values() for value in members}
    return users_of(values, lambda user: sha256_hex(address(user)))


CASES = [
    Case("facebook", FacebookServer,
         lambda server: {"access_token": server.token, "ad_account": server.account, "access_tier": "full"},
         {"email": "email"},
         lambda server: users_of({value for pairs in server.lists.values() for _, value in pairs},
                                 lambda user: sha256_hex(address(user)))),
    Case("google", lambda: GoogleServer(public_key=private_key().public_key()),
         lambda server: {"customer_id": server.account, "service_account_key": key_file(),
                         "accept_customer_match_terms": True, "token_url": f"{server.url}/token"},
         {"email": "email"}, google_members),
    Case("braze", BrazeServer,
         lambda server: {"rest_endpoint": "rest.iad-01.braze.com", "api_key": server.key, "create_users": True},
         {"external_id": "user_id"}, lambda server: server.members(f"audience_{AUDIENCE}")),
    Case("iterable", IterableServer, lambda server: {"api_key": server.key, "rate_limit": "100/s"},
         {"email": "email"}, lambda server: users_of(set().union(*server.lists.values()), address)),
    Case("segment", SegmentServer, lambda server: {"write_key": server.key},
         {"external_id": "user_id"}, lambda server: server.members(AUDIENCE)),
    Case("amplitude", lambda: AmplitudeServer(users={f"user_{number}" for number in range(USERS)}),
         lambda server: {"api_key": server.api_key, "secret_key": server.secret_key, "app_id": 1, "owner": "a@b.co"},
         {"external_id": "user_id"}, lambda server: set().union(*server.cohorts.values())),
]  # fmt: skip


def definitions(case: Case, server: Vendor) -> Definitions:
    own = {"base_url": server.url, "allow_private": True, "timeout": "10s", **case.settings(server)}
    checked = KINDS[case.kind].settings_model.model_validate(own)
    where = TraitTest("ltv", ModelTest("gt", 0.0, "number"))
    return Definitions(
        Settings(1, 1, 1, 64), {}, {"users": ParentModel("users", "user_id", COLUMNS)}, {},
        {AUDIENCE: Audience(AUDIENCE, "users", where, "published")},
        {"there": Destination("there", case.kind, checked)},
        {"promo": Sync("promo", AUDIENCE, "there", identifiers=case.identifiers, batch_age_ms=20)},
    )  # fmt: skip


async def traits(parent: str, keys: list[str], columns: list[str]) -> dict[str, list[Any]]:
    return {column: [address(key) for key in keys] for column in columns}


async def delivered(actor: DeliveryActor, evaluator: InProcessEvaluator) -> None:
    """Wait until nothing is left to send, and nothing of the evaluator's is left to read."""
    async with asyncio.timeout(120):
        quiet = 0
        while quiet < 20:
            (row,) = (await actor.status())["syncs"] or [{"backlog": 1}]
            assert row.get("state", "running") in ("running", "failing"), row
            quiet = 0 if row["backlog"] else quiet + 1
            await asyncio.sleep(0.02)


FAULTS = (
    Says(503, b"<html>down</html>"), None, None, Says(500, b"", after=True), None, Says(502, b"", after=True), None,
    None, None, Says(500, b"", after=True), None, Says(503, b""),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind)
def test_the_vendors_list_is_the_audience(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "RETRY_BASE_MS", 20)

    async def story() -> None:
        chance, evaluator = random.Random(23), InProcessEvaluator()
        async with case.server() as server:
            controller = InProcessController(definitions(case, server))
            actor = await started(tmp_path, controller, evaluator, traits)
            server.faults.extend(FAULTS)
            for number in range(USERS):
                evaluator.flip(f"user_{number}")
            await delivered(actor, evaluator)
            for round_ in range(3):
                server.faults.extend(FAULTS[:4])
                for number in chance.sample(range(USERS), USERS // 3):
                    for _ in range(chance.choice((1, 1, 2, 3))):
                        evaluator.flip(f"user_{number}")
                if round_ == 1:
                    await asyncio.sleep(0.05)  # in the middle of it
                    await actor.abandon()
                    actor = await started(tmp_path, controller, evaluator, traits)
                await delivered(actor, evaluator)
            (row,) = (await actor.status())["syncs"]
            await actor.drain()

            assert case.members(server) == set(evaluator.members_now())
            assert row["failed"] == 0

    asyncio.run(story())
