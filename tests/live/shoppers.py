"""People who shop while evaluators move, and what is asked of Usher meanwhile."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from tests.live.conftest import HIDE_PROMO_MS
from tests.live.usher import Usher, eventually


class Shoppers(threading.Thread):
    """People who buy, one after the other, each once; a purchase is sent again until it is taken."""

    def __init__(self, usher: Usher) -> None:
        super().__init__(daemon=True)
        self._usher = usher
        self._enough = threading.Event()
        self.taken: list[str] = []
        self.wrong: list[str] = []

    def run(self) -> None:
        number = 0
        while not self._enough.is_set():
            user = f"shopper-{number}"
            began_s = time.monotonic()
            self._usher.track_surely(user, "order_completed", f"m-{user}", channel="web")
            # "Already true for the next look-up", whoever has the user now; unless answers took longer than the window.
            missed = self._usher.is_member("hide_promo", user) is False
            if missed and time.monotonic() - began_s < HIDE_PROMO_MS / 1000:
                self.wrong.append(user)
            self.taken.append(user)
            number += 1

    def stop(self) -> None:
        self._enough.set()
        self.join(60)


def files_of(usher: Usher, name: str) -> list[str]:
    """What an evaluator has in the data dir. Unlike a glob, a walk does not mind what goes meanwhile."""
    walk = os.walk(usher.data_dir)
    return [each for _, folders, files in walk for each in (*folders, *files) if each.startswith(name)]


def evaluators(usher: Usher) -> dict[str, str]:
    return {row["name"]: row["state"] for row in usher.status()["actors"] if row["kind"] == "evaluator"}


def scaled(usher: Usher, number: int) -> dict[str, Any]:
    def probe() -> Any:
        code, body = usher.request("POST", "/api/v1/scale", {"evaluators": number})
        assert code in (200, 0, 503), body
        return body if code == 200 and not body.get("under_way") else None

    found: dict[str, Any] = eventually(f"there are {number} evaluators", probe)
    return found
