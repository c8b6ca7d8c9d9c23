"""The Iterable destination: its limits, and where its settings, payload and answers are decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from destinations.contract import Destination, DestinationSettings, Purpose, SyncFault, Unusable
from destinations.iterable import identifiers, listing, lists, payload, response
from destinations.iterable.settings import IterableSettings
from destinations.limits import Limits, RateLimit
from destinations.listing import Listing
from destinations.outcomes import Judgement, StepOutcome
from destinations.records import Attempt, Batch, Record, SealedBatch, SyncShape, Value
from destinations.requests import Answer, Request

BYTES_MAX: Final = 4_000_000
BATCH_AGE_DEFAULT_MS: Final = 1_000
#: Iterable names no rate for its lists: this is a careful start, which `rate_limit` replaces.
REQUESTS_PER_S: Final = 5


class IterableDestination(Destination):
    """`kind: iterable`."""

    kind = "iterable"
    settings_model: ClassVar[type[DestinationSettings]] = IterableSettings
    exit_refusals: ClassVar[Mapping[str, str]] = {"archive": "Iterable has no archived lists, only deleted ones"}
    identifier_fields = identifiers.FIELDS

    def sync_faults(
        self, settings: IterableSettings, *, fields: frozenset[str], on_exit: str, deliver: str | None
    ) -> tuple[SyncFault, ...]:
        """Only what the project identifies users by can be sent."""
        known = identifiers.OF_PROJECT[settings.project]
        return tuple(
            SyncFault("identifiers", f"{field} does not go with project: {settings.project}", ", ".join(sorted(known)))
            for field in sorted(fields - known)
        )

    def limits(self, settings: IterableSettings) -> Limits:
        """What one request takes."""
        return Limits(settings.subscribers_max, BATCH_AGE_DEFAULT_MS, BYTES_MAX, bytes_around=payload.BYTES_AROUND)

    def rate_limits(self, settings: IterableSettings, sync: SyncShape) -> tuple[RateLimit, ...]:
        """The project's, as the settings say or a careful one."""
        return (RateLimit(lists.project_scope(settings), settings.rate_limit or REQUESTS_PER_S, 1000),)

    def identify(self, settings: IterableSettings, raw: Mapping[str, Value]) -> Mapping[str, Any] | Unusable:
        """See `identifiers.identify`."""
        return identifiers.identify(settings, raw)

    def batch_key(self, settings: IterableSettings, record: Record) -> str:
        """Adding and removing are different calls."""
        return record.verb

    def size_bytes(self, settings: IterableSettings, record: Record) -> int:
        """See `payload.size_bytes`."""
        return payload.size_bytes(record)

    def encode(self, settings: IterableSettings, batch: Batch) -> bytes:
        """Give the array of subscribers."""
        return payload.encode(batch)

    def build(self, settings: IterableSettings, sealed: SealedBatch, attempt: Attempt) -> Request:
        """Put the subscribers into a change of the sync's list."""
        list_id = lists.list_id(settings, attempt)
        assert list_id is not None, "steps come first"
        return payload.change_request(settings, sealed.records[0].verb, list_id, sealed.body)

    def judge(self, settings: IterableSettings, sealed: SealedBatch, request: Request, answer: Answer) -> Judgement:
        """See `response.judge`."""
        return response.judge(sealed, answer)

    def example_learned(self, settings: IterableSettings) -> Mapping[str, Any]:
        """A placeholder for the list."""
        return {"list_id": 0, "project": lists.project_scope(settings)}

    def next_step(self, settings: IterableSettings, attempt: Attempt, purpose: Purpose) -> Request | None:
        """Find or make the list; nothing else takes steps."""
        return lists.next_step(settings, attempt) if purpose == "open" else None

    def judge_step(
        self, settings: IterableSettings, attempt: Attempt, purpose: Purpose, request: Request, answer: Answer
    ) -> StepOutcome:
        """See `lists.judge_step`."""
        return lists.judge_step(settings, attempt, request, answer)

    def strays_reason(self, settings: IterableSettings, sync: SyncShape) -> str:
        """See `listing.listing`."""
        return listing.AMBIGUOUS if listing.listing(settings, sync) is None else ""

    def listing(self, settings: IterableSettings, sync: SyncShape) -> Listing | None:
        """See `listing.listing`."""
        return listing.listing(settings, sync)
