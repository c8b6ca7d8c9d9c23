"""What a webhook receiver got of a log of known changes: all of it, each under one id, each user's in order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
import numpy as np

from benchmarks.membership import AUDIENCE, Turns
from benchmarks.receiver import Delivery, is_signed
from benchmarks.results import Check, equal
from benchmarks.workloads import START_MS
from cluster.model.transitions import transition_ids

#: Signatures are checked of about so many requests, evenly spread.
_SIGNATURES_CHECKED: Final = 200


class _Change(msgspec.Struct):
    transition_id: str
    user_id: str
    kind: str
    at: datetime


class _Body(msgspec.Struct):
    changes: list[_Change]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Changes in the order in which they came, each webhook-id counted once.

    `repeats`: requests that came again; `unlike`: of them, those with other bytes than before. `wrong_ids`: changes
    whose transition id is not that of what they tell. `unsigned`: requests of the sample with a bad signature.
    `came_ns`, `came_ms` and `counts`: when each request came, on a clock that all processes share and by the wall's
    (UTC ms), and how many changes it held.
    """

    seqs: np.ndarray
    users: np.ndarray
    entered: np.ndarray
    came_ns: np.ndarray
    came_ms: np.ndarray
    counts: np.ndarray
    repeats: int
    unlike: int
    wrong_ids: int
    unsigned: int

    @property
    def seconds(self) -> float:
        """From the first request to the last."""
        return float(self.came_ns[-1] - self.came_ns[0]) / 1e9 if len(self.came_ns) else 0.0

    @property
    def longest_pause_s(self) -> float:
        """The longest time without a request."""
        return float(np.diff(self.came_ns).max(initial=0)) / 1e9

    @property
    def per_s(self) -> float:
        """Changes a second. The first request begins the time, so that its changes do not count."""
        return float(self.counts[1:].sum()) / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Digested:
    """What is kept of one request. `digest` stands for its body, `signed`: None where that was not looked at."""

    id: str
    digest: bytes
    came_ns: int
    came_ms: float
    seqs: np.ndarray
    users: np.ndarray
    entered: np.ndarray
    wrong_ids: int
    signed: bool | None


_decode: Final = msgspec.json.Decoder(_Body).decode


def digested(delivery: Delivery, secret: str, *, audience: str = AUDIENCE, looks: bool | None = None) -> Digested:
    """Read one request: about 4 µs a change. `looks` at its signature; None: at one of 64."""
    changes = _decode(delivery.body).changes
    ats_ms = [round(change.at.timestamp() * 1000) for change in changes]
    names = [change.user_id for change in changes]
    ids = transition_ids([audience] * len(names), [1] * len(names), names, ats_ms, [0] * len(names))
    digest = hashlib.blake2b(delivery.body, digest_size=16).digest()
    if looks is None:
        looks = digest[0] < 4
    return Digested(
        delivery.header("webhook-id"),
        digest,
        delivery.monotonic_ns,
        delivery.wall_ms,
        np.array(ats_ms, np.int64) - START_MS,
        np.array([int(name.removeprefix("user_")) for name in names], np.int32),
        np.array([change.kind == "entered" for change in changes], np.bool_),
        sum(id_ != change.transition_id for id_, change in zip(ids, changes, strict=True)),
        is_signed(delivery, secret) if looks else None,
    )


def read_arrivals(deliveries: Sequence[Delivery], secret: str) -> Arrivals:
    """Read what a receiver got; runs in its process, when everything is over."""
    every = max(1, len(deliveries) // _SIGNATURES_CHECKED)
    return arrivals_of(
        digested(delivery, secret, looks=number % every == 0) for number, delivery in enumerate(deliveries)
    )


def arrivals_of(requests: Iterable[Digested]) -> Arrivals:
    """Put requests together, in the order in which they came."""
    kept: dict[str, Digested] = {}
    repeats = unlike = 0
    for request in requests:
        first = kept.setdefault(request.id, request)
        repeats += first is not request
        unlike += first.digest != request.digest
    return Arrivals(
        seqs=_joined([request.seqs for request in kept.values()], np.int64),
        users=_joined([request.users for request in kept.values()], np.int32),
        entered=_joined([request.entered for request in kept.values()], np.bool_),
        came_ns=np.array([request.came_ns for request in kept.values()], np.int64),
        came_ms=np.array([request.came_ms for request in kept.values()], np.float64),
        counts=np.array([len(request.seqs) for request in kept.values()], np.int64),
        repeats=repeats,
        unlike=unlike,
        wrong_ids=sum(request.wrong_ids for request in kept.values()),
        unsigned=sum(request.signed is False for request in kept.values()),
    )


def _joined(parts: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *parts])


def arrival_checks(name: str, arrivals: Arrivals, turns: Turns) -> list[Check]:
    """Check that the log arrived: all of it, as it was logged, in order for each user, under one id each."""
    _, users, entered = turns.columns(0, turns.count)
    complete = np.array_equal(np.sort(arrivals.seqs), np.arange(1, turns.count + 1))
    places = np.clip(arrivals.seqs - 1, 0, turns.count - 1)
    alike = np.array_equal(users[places], arrivals.users) and np.array_equal(entered[places], arrivals.entered)
    detail = f"{len(arrivals.seqs):,} of {turns.count:,} changes in {len(arrivals.counts):,} requests"
    return [
        Check(f"{name}: every change arrived, under one webhook-id", complete, detail),
        Check(f"{name}: each says what was logged", alike),
        Check(f"{name}: each user's changes came in order", in_order(arrivals.users, arrivals.seqs)),
        equal(f"{name}: repeats with other bytes, wrong ids, bad signatures",
              (arrivals.unlike, arrivals.wrong_ids, arrivals.unsigned), (0, 0, 0)),
    ]  # fmt: skip


def in_order(users: np.ndarray, seqs: np.ndarray) -> bool:
    """Say whether each user's numbers grow from first to last."""
    by_user = np.argsort(users, kind="stable")
    same_user = np.diff(users[by_user]) == 0
    return bool((np.diff(seqs[by_user])[same_user] > 0).all())
