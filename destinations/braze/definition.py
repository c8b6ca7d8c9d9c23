"""The Braze destination: its limits, and where its settings, payload and answers are decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

from destinations.braze import identifiers, payload, response
from destinations.braze.settings import BrazeSettings
from destinations.contract import Destination, DestinationSettings, SyncFault, Unusable
from destinations.limits import Limits, RateLimit, scope_of
from destinations.outcomes import Judgement
from destinations.records import Attempt, Batch, Record, SealedBatch, SyncShape, Value
from destinations.requests import Answer, Request

#: Over attributes, events and purchases together.
OBJECTS_MAX: Final = 75
BYTES_MAX: Final = 4_000_000
BATCH_AGE_DEFAULT_MS: Final = 1_000
#: Unanswered requests of one sync: batches are small, so that one at a time would be slow.
IN_FLIGHT_MAX: Final = 8
#: The base limit of a workspace since 2024-10-28.
REQUESTS_MAX: Final = 3_000
WINDOW_MS: Final = 3_000


class BrazeDestination(Destination):
    """`kind: braze`."""

    kind = "braze"
    settings_model: ClassVar[type[DestinationSettings]] = BrazeSettings
    exit_refusals: ClassVar[Mapping[str, str]] = {
        "archive": "membership is an attribute of each profile: there is no list that could be archived"
    }
    identifier_fields = identifiers.FIELDS

    def deliver_default(self, settings: BrazeSettings) -> Literal["state", "changes"]:
        """Attributes hold a state, events are every change."""
        return "changes" if settings.send == "event" else "state"

    def sync_faults(
        self, settings: BrazeSettings, *, fields: frozenset[str], on_exit: str, deliver: str | None
    ) -> tuple[SyncFault, ...]:
        """An alias needs its label, and events cannot be a state."""
        faults = []
        if "alias" in fields and settings.alias_label is None:
            faults.append(SyncFault("identifiers", "alias needs the destination's alias_label"))
        if settings.send == "event" and deliver == "state":
            faults.append(SyncFault("deliver", "send: event sends every entry and exit", "changes"))
        return tuple(faults)

    def limits(self, settings: BrazeSettings) -> Limits:
        """What one request to `/users/track` takes."""
        return Limits(
            OBJECTS_MAX,
            BATCH_AGE_DEFAULT_MS,
            BYTES_MAX,
            bytes_around=payload.BYTES_AROUND,
            in_flight_max=IN_FLIGHT_MAX,
        )

    def rate_limits(self, settings: BrazeSettings, sync: SyncShape) -> tuple[RateLimit, ...]:
        """The workspace's, known by its key, besides what the settings say."""
        scope = scope_of(self.kind, "account", settings.rest_endpoint, settings.api_key.get_secret_value())
        return (RateLimit(scope, REQUESTS_MAX, WINDOW_MS), *super().rate_limits(settings, sync))

    def identify(self, settings: BrazeSettings, raw: Mapping[str, Value]) -> Mapping[str, Any] | Unusable:
        """Choose the one identifier; see `identifiers`."""
        return identifiers.identify(settings, raw)

    def size_bytes(self, settings: BrazeSettings, record: Record) -> int:
        """See `payload.size_bytes`."""
        return payload.size_bytes(settings, record)

    def encode(self, settings: BrazeSettings, batch: Batch) -> bytes:
        """Give the body."""
        return payload.encode(settings, batch)

    def build(self, settings: BrazeSettings, sealed: SealedBatch, attempt: Attempt) -> Request:
        """See `payload.build`."""
        return payload.build(settings, sealed)

    def judge(self, settings: BrazeSettings, sealed: SealedBatch, request: Request, answer: Answer) -> Judgement:
        """See `response.judge`."""
        return response.judge(sealed, answer, payload.array_name(settings))

    def strays_reason(self, settings: BrazeSettings, sync: SyncShape) -> str:
        """An export needs a segment that somebody made by hand, and lies in a bucket of the customer's."""
        return "Braze exports profiles by segments alone, which its API cannot make"
