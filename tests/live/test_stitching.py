"""Events from before a user was known, through the real edge, with several evaluators: in at once by an identify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.live.usher import WRITE_KEY, Usher

pytestmark = [pytest.mark.live, pytest.mark.timeout(170)]

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "sources": [{"id": "shop", "kind": "http", "write_key": WRITE_KEY}],
    "parent_models": [{"id": "users", "primary_key": "user_id", "stitching": True}],
    "event_models": [
        {"id": "page_viewed", "parent": "users", "type": "page", "foreign_key": ["user_id", "anonymous_id"]}
    ],
    "audiences": [
        {"id": "readers", "parent": "users", "where": {"event": "page_viewed", "at_least": 3, "within": "1h"}}
    ],
}  # fmt: skip


def send(usher: Usher, *calls: dict[str, Any]) -> None:
    """As an SDK does: one batch, answered with 200."""
    code, answer = usher.request("POST", "/v1/batch", {"batch": calls}, basic=WRITE_KEY)
    assert code == 200, answer


def page(number: int, **ids: str) -> dict[str, Any]:
    return {"type": "page", "name": "Home", "messageId": f"m{number}", **ids}


def identify(user: str, device: str) -> dict[str, Any]:
    return {"type": "identify", "userId": user, "anonymousId": device, "messageId": f"{user}-{device}"}


def test_pages_viewed_before_the_identify_count_at_once_and_a_shared_device_is_not_taken(tmp_path: Path) -> None:
    definitions = tmp_path / "definitions.json"
    definitions.write_text(json.dumps(DOCUMENT))
    usher = Usher(tmp_path / "data", definitions=[str(definitions)], evaluators=2)
    try:
        usher.await_ready()
        for number in range(3):
            send(usher, page(number, anonymousId="device"))
        assert usher.is_member("readers", "device") is True
        assert usher.is_member("readers", "ann") is False
        send(usher, identify("ann", "device"))
        assert usher.is_member("readers", "ann") is True
        assert usher.is_member("readers", "device") is False
        # Another who signs in there starts from nothing, and what comes from there without a name is the first one's.
        send(usher, identify("bob", "device"), page(3, userId="bob", anonymousId="device"))
        send(usher, page(4, anonymousId="device"), page(5, anonymousId="device"))
        assert usher.is_member("readers", "bob") is False
        (stitching,) = [actor["stitching"] for actor in usher.status()["actors"] if "stitching" in actor]
        assert stitching["counts"] == {"events_joined": 3, "events_left_out": 0, "joined": 1, "other_user": 1}
        without = {**DOCUMENT, "parent_models": [{"id": "users", "primary_key": "user_id"}]}
        code, refused = usher.request("POST", "/api/v1/apply?mode=replace", without)
        assert code in (400, 422), refused
        assert "usher scale --evaluators 1" in json.dumps(refused)
        assert usher.stop() == 0, usher.lines
        again = Usher(usher.data_dir)
        try:
            again.await_ready()
            assert again.is_member("readers", "ann") is True
            assert again.is_member("readers", "device") is False
            assert again.stop() == 0, again.lines
        finally:
            again.close()
    finally:
        usher.close()
