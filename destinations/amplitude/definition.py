"""The Amplitude destination: its limits, and where its settings, payload and answers are decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

from destinations.amplitude import cohorts, events, listing
from destinations.amplitude.settings import API_VERSION, AmplitudeSettings
from destinations.contract import Destination, DestinationSettings, Purpose, SyncFault, Unusable
from destinations.identifiers import as_text
from destinations.limits import ConcurrencyLimit, Limits
from destinations.listing import Listing
from destinations.outcomes import Judgement, StepOutcome
from destinations.records import Attempt, Batch, Record, SealedBatch, SyncShape, Value
from destinations.requests import Answer, Request

IDS_MAX: Final = 100_000
#: Fewer than may be: an answer names every id that Amplitude does not know.
IDS_DEFAULT: Final = 10_000
COHORT_AGE_DEFAULT_MS: Final = 5_000
EVENT_AGE_DEFAULT_MS: Final = 100
#: Requests of a project at once, downloads and dashboards included.
AT_ONCE_MAX: Final = 5
_ID_CHARS_MAX: Final = 512
_KEYS: Final = {"external_id": "user_id", "device_id": "device_id"}


class AmplitudeDestination(Destination):
    """`kind: amplitude`."""

    kind = "amplitude"
    settings_model: ClassVar[type[DestinationSettings]] = AmplitudeSettings
    api_version = API_VERSION
    exit_refusals: ClassVar[Mapping[str, str]] = {"archive": "only Amplitude's own interface can archive a cohort"}
    identifier_fields: ClassVar[Mapping[str, str]] = {
        "external_id": "your own id of a user, Amplitude's `user_id`",
        "device_id": "the id of a device, of `send: event`",
    }

    def deliver_default(self, settings: AmplitudeSettings) -> Literal["state", "changes"]:
        """A cohort holds a state, events are every change."""
        return "changes" if settings.send == "event" else "state"

    def sync_faults(
        self, settings: AmplitudeSettings, *, fields: frozenset[str], on_exit: str, deliver: str | None
    ) -> tuple[SyncFault, ...]:
        """Cohorts know users alone, and events cannot be a state."""
        faults = []
        if settings.send == "cohort" and "device_id" in fields:
            faults.append(SyncFault("identifiers", "device_id does not go with send: cohort", "external_id"))
        if settings.send == "event" and deliver == "state":
            faults.append(SyncFault("deliver", "send: event sends every entry and exit", "changes"))
        return tuple(faults)

    def limits(self, settings: AmplitudeSettings) -> Limits:
        """One edit of a cohort at a time: Amplitude refuses a second one."""
        if settings.send == "cohort":
            return Limits(IDS_MAX, COHORT_AGE_DEFAULT_MS, in_flight_max=1, records_default=IDS_DEFAULT)
        return Limits(events.EVENTS_MAX, EVENT_AGE_DEFAULT_MS, events.BYTES_MAX, bytes_around=events.BYTES_AROUND)

    def concurrency_limits(self, settings: AmplitudeSettings, sync: SyncShape) -> tuple[ConcurrencyLimit, ...]:
        """The project's, for cohorts."""
        return (ConcurrencyLimit(settings.project, AT_ONCE_MAX),) if settings.send == "cohort" else ()

    def identify(self, settings: AmplitudeSettings, raw: Mapping[str, Value]) -> Mapping[str, Any] | Unusable:
        """Give `user_id` and `device_id`, unhashed; a cohort needs the first, an event one of them."""
        known = _KEYS if settings.send == "event" else {"external_id": "user_id"}
        found = {key: as_text(raw.get(name)) for name, key in known.items()}
        usable = {key: value for key, value in found.items() if 0 < len(value) <= _ID_CHARS_MAX}
        return usable or Unusable(f"no usable value for {' or '.join(known)}")

    def replaced(
        self, settings: AmplitudeSettings, old: Mapping[str, Any], new: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Say of the old user that they are out."""
        return {} if old == new else old

    def batch_key(self, settings: AmplitudeSettings, record: Record) -> str:
        """Adding to and removing from a cohort are different requests, and so are different sorts of ids."""
        if settings.send == "event":
            return ""
        return record.verb if "user_id" in record.identifiers else f"{record.verb} by amplitude id"

    def size_bytes(self, settings: AmplitudeSettings, record: Record) -> int:
        """See `events.size_bytes`; a cohort's ids have no limit in bytes."""
        if settings.send == "event":
            return events.size_bytes(settings, record)
        return super().size_bytes(settings, record)

    def encode(self, settings: AmplitudeSettings, batch: Batch) -> bytes:
        """Give the array of ids or of events."""
        return cohorts.encode(batch) if settings.send == "cohort" else events.encode(settings, batch)

    def build(self, settings: AmplitudeSettings, sealed: SealedBatch, attempt: Attempt) -> Request:
        """See `cohorts.build` and `events.build`."""
        if settings.send == "cohort":
            return cohorts.build(settings, sealed, attempt)
        return events.build(settings, sealed)

    def judge(self, settings: AmplitudeSettings, sealed: SealedBatch, request: Request, answer: Answer) -> Judgement:
        """See `cohorts.judge` and `events.judge`."""
        if settings.send == "cohort":
            return cohorts.judge(settings, sealed, request, answer)
        return events.judge(sealed, answer)

    def example_learned(self, settings: AmplitudeSettings) -> Mapping[str, Any]:
        """A placeholder for the cohort."""
        return {"cohort_id": "COHORT", "project": settings.project} if settings.send == "cohort" else {}

    def next_step(self, settings: AmplitudeSettings, attempt: Attempt, purpose: Purpose) -> Request | None:
        """Look for the cohort, or have its members listed; nothing else takes steps."""
        if settings.send == "event":
            return None
        if purpose == "list":
            return listing.next_step(settings, attempt)
        return cohorts.next_step(settings, attempt) if purpose == "open" else None

    def judge_step(
        self, settings: AmplitudeSettings, attempt: Attempt, purpose: Purpose, request: Request, answer: Answer
    ) -> StepOutcome:
        """See `cohorts.judge_step` and `listing.judge_step`."""
        if purpose == "list":
            return listing.judge_step(attempt, request, answer)
        return cohorts.judge_step(settings, attempt, answer)

    def strays_reason(self, settings: AmplitudeSettings, sync: SyncShape) -> str:
        """Events are no list."""
        return "" if settings.send == "cohort" else "events are no list"

    def listing(self, settings: AmplitudeSettings, sync: SyncShape) -> Listing | None:
        """See `listing.CohortListing`."""
        return listing.CohortListing(settings) if settings.send == "cohort" else None
