"""The Segment destination: its limits, and where its settings, payload and answers are decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

from destinations.contract import Destination, DestinationSettings, Unusable
from destinations.limits import Limits, RateLimit, scope_of
from destinations.outcomes import Judgement
from destinations.records import Attempt, Batch, Record, SealedBatch, SyncShape, Value
from destinations.requests import Answer, Request
from destinations.segment import payload, response
from destinations.segment.settings import API_VERSION, SegmentSettings

BATCH_AGE_DEFAULT_MS: Final = 100
#: What Segment recommends for a workspace.
REQUESTS_PER_S: Final = 1_000


class SegmentDestination(Destination):
    """`kind: segment`."""

    kind = "segment"
    settings_model: ClassVar[type[DestinationSettings]] = SegmentSettings
    api_version = API_VERSION
    exit_refusals: ClassVar[Mapping[str, str]] = {
        "archive": "Segment gets calls about users: there is no list that could be archived"
    }
    identifier_fields = payload.FIELDS

    def deliver_default(self, settings: SegmentSettings) -> Literal["state", "changes"]:
        """Every change is a call."""
        return "changes"

    def limits(self, settings: SegmentSettings) -> Limits:
        """Calls and bytes of one batch."""
        per_record = 2 if settings.send == "both" else 1
        return Limits(
            payload.CALLS_MAX // per_record,
            BATCH_AGE_DEFAULT_MS,
            payload.BATCH_BYTES_MAX,
            bytes_around=payload.BYTES_AROUND,
        )

    def rate_limits(self, settings: SegmentSettings, sync: SyncShape) -> tuple[RateLimit, ...]:
        """The workspace's, known by its write key, besides what the settings say."""
        scope = scope_of(self.kind, "account", settings.region, settings.write_key.get_secret_value())
        return (RateLimit(scope, REQUESTS_PER_S, 1000), *super().rate_limits(settings, sync))

    def identify(self, settings: SegmentSettings, raw: Mapping[str, Value]) -> Mapping[str, Any] | Unusable:
        """See `payload.identify`."""
        return payload.identify(raw)

    def replaced(self, settings: SegmentSettings, old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
        """Say of the old user that they are out; an address alone names nobody, and the entry brings the new one."""
        same = all(old.get(name) == new.get(name) for name in ("userId", "anonymousId"))
        return {} if same else old

    def size_bytes(self, settings: SegmentSettings, record: Record) -> int:
        """See `payload.size_bytes`."""
        return payload.size_bytes(settings, record)

    def encode(self, settings: SegmentSettings, batch: Batch) -> bytes:
        """Give the array of calls."""
        return payload.encode(settings, batch)

    def build(self, settings: SegmentSettings, sealed: SealedBatch, attempt: Attempt) -> Request:
        """See `payload.build`."""
        return payload.build(settings, sealed, attempt.now_ms)

    def judge(self, settings: SegmentSettings, sealed: SealedBatch, request: Request, answer: Answer) -> Judgement:
        """See `response.judge`."""
        return response.judge([payload.fits(settings, record) for record in sealed.records], answer)

    def strays_reason(self, settings: SegmentSettings, sync: SyncShape) -> str:
        """There is nothing to list."""
        return "Segment takes calls and keeps no list"
