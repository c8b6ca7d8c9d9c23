"""Message ids: pure functions of what they name, so that a crash changes none of them."""

from __future__ import annotations

import hashlib


def batch_id(sync: str, incarnation: int, number: int) -> str:
    """Give a batch's `webhook-id`: the same after every crash, another for every batch of every sync ever."""
    return _message_id(f"{sync}\0{incarnation}\0{number}")


def part_id(whole_id: str, part: str) -> str:
    """Give the id of a part of a batch: other contents never travel under the same id."""
    return _message_id(f"{whole_id}\0{part}")


def _message_id(name: str) -> str:
    return "msg_" + hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
