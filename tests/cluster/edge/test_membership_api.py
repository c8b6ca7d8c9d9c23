"""Membership over HTTP: the fast path and the full one say the same, and both say what the files and evaluators say."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import quote

import pytest

from cluster.limits import LOOKUP_PAIRS_MAX
from tests.cluster.edge.serving import START_MS, Site, at_site

ODD_IDS = [
    "user_42", "🛍️ shopper", "a/b", "a%2Fb", "a b+c", "ümlaut", "50%", "?x=1", "#", "..", "x" * 1_024, "x" * 1_025,
]  # fmt: skip


def path_of(user: str, audience: str = "buyers") -> str:
    return f"/api/v1/audiences/{quote(audience, safe='')}/memberships/{quote(user, safe='').replace('.', '%2E')}"


class Wire:
    """One kept-alive connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, site: Site) -> Wire:
        return cls(*await asyncio.open_connection("127.0.0.1", site.server.port))

    async def ask(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        self._writer.write(request)
        return await self.answer()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        status = int((await self._reader.readline()).split()[1])
        headers = {}
        while (line := await self._reader.readline()) != b"\r\n":
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        return status, headers, await self._reader.readexactly(int(headers["content-length"]))

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def plain_get(site: Site, user: str, *more: str, audience: str = "buyers") -> bytes:
    lines = [f"GET {path_of(user, audience)} HTTP/1.1", "Host: usher", *more]
    lines.append(f"Authorization: Bearer {site.controller.api_keys['read']}")
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


@pytest.mark.parametrize("user", ODD_IDS)
@pytest.mark.parametrize("member", [True, False])
def test_fast_and_full_path_agree_on_every_id(user: str, member: bool) -> None:
    async def check(site: Site) -> None:
        if member:
            site.reader.members = {"buyers": {user}}
        expected = member and len(user.encode()) <= 1_024
        wire = await Wire.open(site)
        status, _, body = await wire.ask(plain_get(site, user))
        assert (status, json.loads(body)) == (200, {"isMember": expected})
        full = await site.call("GET", path_of(user) + "?detail=0", "read")
        assert full[:2] == (200, {"isMember": expected})
        await wire.close()

    at_site(check)


def test_a_plain_look_up_is_answered_by_the_fast_path_again_and_again() -> None:
    async def check(site: Site) -> None:
        site.reader.members = {"buyers": {"u1"}}
        wire = await Wire.open(site)
        for number in range(5):
            status, headers, body = await wire.ask(plain_get(site, "u1"))
            assert (status, json.loads(body)) == (200, {"isMember": True})
            assert headers["content-type"] == "application/json"
            assert headers["date"].endswith("GMT")
            site.clock.advance(700)
            assert site.server._fast_reads.answered == number + 1
        await wire.close()

    at_site(check)


@pytest.mark.parametrize(
    "more",
    [
        ("Content-Length: 0",),
        ("Connection: close",),
        ("Host: twice",),
        ("X-Ok: 1", "Expect: nothing"),
        ("Upgrade: h2c",),
        ("Origin: https://a.example",),
    ],
)
def test_a_request_that_asks_for_more_goes_the_full_way(more: tuple[str, ...]) -> None:
    async def check(site: Site) -> None:
        site.reader.members = {"buyers": {"u1"}}
        wire = await Wire.open(site)
        status, _, body = await wire.ask(plain_get(site, "u1", *more))
        assert site.server._fast_reads.answered == 0
        assert (status, body) in ((200, b'{"isMember":true}'), (400, body), (417, body))
        await wire.close()

    at_site(check)


def test_requests_in_pieces_and_in_a_row_are_each_answered() -> None:
    async def check(site: Site) -> None:
        site.reader.members = {"buyers": {"u1"}}
        wire = await Wire.open(site)
        request = plain_get(site, "u1")
        status, _, body = await wire.ask(request)
        assert (status, body) == (200, b'{"isMember":true}')
        wire._writer.write(request[:30])
        await asyncio.sleep(0.01)
        wire._writer.write(request[30:] + plain_get(site, "u2") + request)
        answers = [(await wire.answer())[2] for _ in range(3)]
        assert answers == [b'{"isMember":true}', b'{"isMember":false}', b'{"isMember":true}']
        await wire.close()

    at_site(check)


def test_where_the_files_cannot_tell_the_evaluator_is_asked() -> None:
    async def check(site: Site) -> None:
        site.reader.ask = {"late", "other"}
        site.evaluators[0].members = {"buyers": ["late"]}
        wire = await Wire.open(site)
        assert (await wire.ask(plain_get(site, "late")))[2] == b'{"isMember":true}'
        assert (await wire.ask(plain_get(site, "other")))[2] == b'{"isMember":false}'
        assert (await wire.ask(plain_get(site, "third")))[2] == b'{"isMember":false}'
        assert (site.evaluators[0].lookups, site.server._fast_reads.answered) == (2, 3)
        site.evaluators[0].refusals = [{"error": "not_ready", "message": "recovering", "retry_after_ms": 100}]
        status, headers, body = await wire.ask(plain_get(site, "late"))
        assert (status, headers["retry-after"], json.loads(body)["code"]) == (503, "1", "not_ready")
        await wire.close()

    at_site(check)


def test_while_the_evaluator_is_away_what_was_last_known_is_told_and_as_of_when() -> None:
    async def check(site: Site) -> None:
        site.reader.members, site.reader.ask, site.reader.clock_ms = {"buyers": {"late"}}, {"late", "other"}, 77
        site.evaluators[0].refusals = [{"error": "unreachable", "message": "gone", "retry_after_ms": 100}] * 6
        wire = await Wire.open(site)
        for user, member in (("late", "true"), ("other", "false")):
            status, headers, body = await wire.ask(plain_get(site, user))
            assert (status, headers["usher-as-of"], body) == (200, "77", b'{"isMember":%s}' % member.encode())
        await wire.close()
        status, answer, told = await site.call("GET", path_of("late") + "?detail=0", "read")
        assert (status, answer, told["Usher-As-Of"]) == (200, {"isMember": True}, "77")
        status, answer, _ = await site.call("GET", path_of("late") + "?detail=1", "read")
        unknown = {"since": None, "changes_at": None, "version": 1}
        assert (status, answer) == (200, {"isMember": True, "as_of": 77, **unknown})
        pairs = {"users": ["late", "other"], "audiences": ["buyers"]}
        status, answer, _ = await site.call("POST", "/api/v1/memberships", "read", json=pairs)
        assert (status, answer["as_of"], [row["isMember"] for row in answer["memberships"]]) == (200, 77, [True, False])
        status, answer, _ = await site.call("GET", "/api/v1/users/late/memberships", "read")
        assert (status, answer["as_of"], answer["audiences"]) == (200, 77, ["buyers"])
        site.evaluators[0].refusals = []
        status, answer, told = await site.call("GET", path_of("late") + "?detail=0", "read")
        assert (status, answer, "Usher-As-Of" in told) == (200, {"isMember": False}, False)

    at_site(check)


def test_an_evaluator_that_has_too_much_to_do_is_not_away() -> None:
    async def check(site: Site) -> None:
        site.reader.members, site.reader.ask, site.reader.clock_ms = {"buyers": {"late"}}, {"late"}, 77
        site.evaluators[0].refusals = [{"error": "overloaded", "message": "busy", "retry_after_ms": 100}]
        assert (await site.call("GET", path_of("late") + "?detail=0", "read"))[0] == 503

    at_site(check)


def test_detail_says_since_when_and_until_when() -> None:
    async def check(site: Site) -> None:
        site.evaluators[0].members = {"buyers": ["u1"]}
        _, answer, _ = await site.call("GET", path_of("u1") + "?detail=1", "read")
        assert answer == {
            "isMember": True, "as_of": START_MS, "since": START_MS - 5, "changes_at": START_MS + 9, "version": 1,
        }  # fmt: skip
        _, answer, _ = await site.call("GET", path_of("u2") + "?detail=1", "read")
        assert (answer["isMember"], answer["since"], answer["version"]) == (False, None, 1)

    at_site(check)


@pytest.mark.parametrize("audience", ["nobody", "sketch", "büyers"])
@pytest.mark.parametrize("query", ["", "?detail=1"])
def test_an_unknown_or_draft_audience_is_404(audience: str, query: str) -> None:
    async def check(site: Site) -> None:
        status, problem, headers = await site.call("GET", path_of("u1", audience) + query, "read")
        assert (status, problem["status"], problem["code"]) == (404, 404, "not_found")
        assert audience in problem["detail"]
        assert headers["Content-Type"].startswith("application/problem+json")

    at_site(check)


@pytest.mark.parametrize(
    ("authorization", "status"), [(None, 401), ("Bearer nobody", 401), ("Basic eDo=", 401), ("bearer", 401)]
)
def test_without_a_key_nothing_is_told(authorization: str | None, status: int) -> None:
    async def check(site: Site) -> None:
        headers = {"Authorization": authorization} if authorization else {}
        found, problem, answer_headers = await site.call("GET", path_of("u1"), None, headers=headers)
        assert (found, problem["code"]) == (status, "unauthorized")
        assert answer_headers["WWW-Authenticate"].startswith("Bearer")

    at_site(check)


def test_a_revoked_key_reads_nothing_more_on_a_connection_that_is_open() -> None:
    async def check(site: Site) -> None:
        wire = await Wire.open(site)
        assert (await wire.ask(plain_get(site, "u1")))[0] == 200
        assert (await site.call("DELETE", "/api/v1/keys/id-read"))[0] == 200
        assert (await wire.ask(plain_get(site, "u1")))[0] == 401
        await wire.close()

    at_site(check)


def test_an_error_in_a_reader_is_500_with_an_id_and_no_traceback() -> None:
    async def check(site: Site) -> None:
        def broken(*_: Any) -> bool:
            raise ZeroDivisionError

        site.server.memberships.read = broken  # type: ignore[method-assign]
        status, problem, _ = await site.call("GET", path_of("u1"), "read")
        assert (status, problem["code"]) == (500, "internal_error")
        assert "ZeroDivision" not in json.dumps(problem)

    at_site(check)


def test_every_pair_of_a_batch_is_answered_in_order() -> None:
    async def check(site: Site) -> None:
        site.reader.members = {"buyers": {"u1", "u3"}}
        site.reader.ask = {"u4", "u5"}
        for evaluator in site.evaluators:
            evaluator.members = {"buyers": ["u5"]}
        body = {"users": ["u1", "u2", "u4", "u5", "", "u1"], "audiences": ["buyers"]}
        status, answer, _ = await site.call("POST", "/api/v1/memberships", "read", json=body)
        assert status == 200
        found = [(row["user"], row["audience"], row["isMember"]) for row in answer["memberships"]]
        members = [True, False, False, True, False, True]
        assert found == [(user, "buyers", member) for user, member in zip(body["users"], members, strict=True)]

    at_site(check, evaluators=3)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"users": ["u"] * (LOOKUP_PAIRS_MAX + 1), "audiences": ["buyers"]}, 422),
        ({"users": ["u"] * LOOKUP_PAIRS_MAX, "audiences": ["buyers"]}, 200),
        ({"users": ["u"], "audiences": ["buyers", "nobody"]}, 404),
        ({"users": [7], "audiences": ["buyers"]}, 422),
        ({"users": ["u"]}, 422),
        ({"users": ["u"], "audiences": [], "more": 1}, 422),
    ],
)
def test_a_batch_is_bounded_and_checked(body: dict[str, Any], status: int) -> None:
    async def check(site: Site) -> None:
        assert (await site.call("POST", "/api/v1/memberships", "read", json=body))[0] == status

    at_site(check)


def test_a_batch_that_is_no_json_is_400() -> None:
    async def check(site: Site) -> None:
        status, problem, _ = await site.call("POST", "/api/v1/memberships", "read", data=b"{")
        assert (status, problem["code"]) == (400, "invalid_json")

    at_site(check)


def test_all_audiences_of_a_user() -> None:
    async def check(site: Site) -> None:
        site.reader.members = {"buyers": {"a/b"}, "sketch": {"a/b"}}
        _, answer, _ = await site.call("GET", "/api/v1/users/a%2Fb/memberships", "read")
        assert answer == {"user": "a/b", "audiences": ["buyers"]}
        assert (await site.call("GET", "/api/v1/users/u2/memberships", "read"))[1]["audiences"] == []

    at_site(check)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1_000])
def test_pages_give_every_member_once(limit: int) -> None:
    async def check(site: Site) -> None:
        for index, evaluator in enumerate(site.evaluators):
            evaluator.members = {"buyers": [f"e{index}-{n}" for n in range(5 * index)]}
        found: list[str] = []
        query = f"?limit={limit}"
        while True:
            _, page, _ = await site.call("GET", f"/api/v1/audiences/buyers/members{query}", "read")
            assert len(page["members"]) <= limit
            found += page["members"]
            if page["cursor"] is None:
                break
            query = f"?limit={limit}&cursor={page['cursor']}"
        assert found == [f"e{index}-{n}" for index in range(3) for n in range(5 * index)]

    at_site(check, evaluators=3)


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=x", "limit=-1", "cursor=%25%25", "cursor=WzFd"])
def test_a_wrong_page_is_400(query: str) -> None:
    async def check(site: Site) -> None:
        assert (await site.call("GET", f"/api/v1/audiences/buyers/members?{query}", "read"))[0] == 400

    at_site(check)


def test_before_placement_reads_are_503() -> None:
    async def check(site: Site) -> None:
        await site.controller.change(owner_of_partition=(), evaluators=())
        await site.server.watcher.sync()
        assert (await site.call("GET", path_of("u1"), "read"))[0] == 503

    at_site(check)


def test_a_connection_closes_when_idle_and_not_before() -> None:
    async def check(site: Site) -> None:
        wire = await Wire.open(site)
        await wire.ask(plain_get(site, "u1"))
        (connection,) = site.server._connections
        connection.sweep(100.0, 75.0)
        connection.sweep(174.0, 75.0)
        await wire.ask(plain_get(site, "u1"))
        connection.sweep(176.0, 75.0)
        connection.sweep(251.0, 75.0)
        assert await wire._reader.read() == b""
        await wire.close()

    at_site(check)
