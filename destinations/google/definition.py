"""The Google destination: its limits, and where its settings, payload and answers are decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from destinations.contract import Destination, DestinationSettings, Purpose, SyncFault, Unusable
from destinations.google import credentials, identifiers, lists, payload, response
from destinations.google.settings import API_VERSION, DAY_MS, GoogleSettings
from destinations.limits import ConcurrencyLimit, Limits, RateLimit
from destinations.outcomes import Judgement, PollOutcome, StepOutcome, TokenOutcome
from destinations.records import Attempt, Batch, Record, SealedBatch, SyncShape, Value
from destinations.requests import Answer, Request
from destinations.tokens import judge_token_answer

MEMBERS_MAX: Final = 10_000
#: Google names no limit in bytes; this one is ours, so that a request ends within its time.
BYTES_MAX: Final = 8 * 1024 * 1024
#: Changes show after hours at Google: a batch may fill.
BATCH_AGE_DEFAULT_MS: Final = 5_000
#: Changes a project may make in a minute and in a day, and how many at once (recommended).
MINUTE_MAX: Final = 300
DAY_MAX: Final = 100_000
AT_ONCE_MAX: Final = 10


class GoogleDestination(Destination):
    """`kind: google`."""

    kind = "google"
    settings_model: ClassVar[type[DestinationSettings]] = GoogleSettings
    api_version = API_VERSION
    exits: ClassVar[frozenset[str]] = frozenset({"remove", "nothing", "archive"})
    exit_refusals: ClassVar[Mapping[str, str]] = {}
    identifier_fields = identifiers.FIELDS

    def sync_faults(
        self, settings: GoogleSettings, *, fields: frozenset[str], on_exit: str, deliver: str | None
    ) -> tuple[SyncFault, ...]:
        """Only what goes with the destination's `upload_key` can be sent, and parts of an address go together."""
        known = identifiers.OF_KEY[settings.upload_key]
        allowed = ", ".join(sorted(known))
        faults = [
            SyncFault("identifiers", f"{field} does not go with upload_key: {settings.upload_key}", allowed)
            for field in sorted(fields - known)
        ]
        missing = [part for part in identifiers.ADDRESS if part not in fields]
        if fields & set(identifiers.ADDRESS) and missing:
            message = f"an address needs all four of its parts: {', '.join(missing)} missing"
            faults.append(SyncFault("identifiers", message, allowed))
        return tuple(faults)

    def limits(self, settings: GoogleSettings) -> Limits:
        """One request at a time: in which order Google works off two of one list is not said."""
        return Limits(MEMBERS_MAX, BATCH_AGE_DEFAULT_MS, BYTES_MAX, bytes_around=payload.BYTES_AROUND, in_flight_max=1)

    def rate_limits(self, settings: GoogleSettings, sync: SyncShape) -> tuple[RateLimit, ...]:
        """The Cloud project's quotas, besides what the settings say."""
        project = credentials.project_scope(settings)
        minute, day = RateLimit(project, MINUTE_MAX, 60_000), RateLimit(project, DAY_MAX, DAY_MS, burst=MINUTE_MAX)
        return (minute, day, *super().rate_limits(settings, sync))

    def concurrency_limits(self, settings: GoogleSettings, sync: SyncShape) -> tuple[ConcurrencyLimit, ...]:
        """What Google recommends for a project."""
        return (ConcurrencyLimit(credentials.project_scope(settings), AT_ONCE_MAX),)

    def resend_every_ms(self, settings: GoogleSettings) -> int | None:
        """Members lapse after `membership_duration`: half of it leaves time for a destination that is down."""
        return settings.membership_duration // 2

    def secrets(self, settings: GoogleSettings) -> tuple[str, ...]:
        """The secret settings, and the private key inside the key file besides."""
        own = super().secrets(settings)
        return own if settings.service_account_key is None else (*own, settings.key_parts["private_key"])

    def identify(self, settings: GoogleSettings, raw: Mapping[str, Value]) -> Mapping[str, Any] | Unusable:
        """Normalise and hash; see `identifiers`."""
        return identifiers.identify(settings, raw)

    def batch_key(self, settings: GoogleSettings, record: Record) -> str:
        """Adding and removing are different calls."""
        return record.verb

    def size_bytes(self, settings: GoogleSettings, record: Record) -> int:
        """See `payload.size_bytes`."""
        return payload.size_bytes(record)

    def encode(self, settings: GoogleSettings, batch: Batch) -> bytes:
        """Give the array of members."""
        return payload.encode(batch)

    def build(self, settings: GoogleSettings, sealed: SealedBatch, attempt: Attempt) -> Request:
        """Put the members into a change of the sync's list."""
        verb = sealed.records[0].verb
        list_id = lists.list_id(settings, attempt)
        assert list_id is not None, "steps come first"
        body = payload.change_body(settings, verb, list_id, sealed.body)
        path = "audienceMembers:ingest" if verb == "add" else "audienceMembers:remove"
        return payload.api_request(settings, attempt.token, "POST", path, body)

    def judge(self, settings: GoogleSettings, sealed: SealedBatch, request: Request, answer: Answer) -> Judgement:
        """See `response.judge`."""
        return response.judge(sealed, answer)

    def token_scope(self, settings: GoogleSettings) -> str | None:
        """See `credentials.token_scope`."""
        return credentials.token_scope(settings)

    def token_request(self, settings: GoogleSettings, now_ms: int) -> Request:
        """See `credentials.token_request`."""
        return credentials.token_request(settings, now_ms)

    def judge_token(self, settings: GoogleSettings, answer: Answer) -> TokenOutcome:
        """Google's token answers are those of the standard."""
        return judge_token_answer(answer)

    def example_learned(self, settings: GoogleSettings) -> Mapping[str, Any]:
        """A placeholder for the list."""
        return {"user_list_id": "USER_LIST", "customer_id": settings.customer_id, "membership_status": "OPEN"}

    def next_step(self, settings: GoogleSettings, attempt: Attempt, purpose: Purpose) -> Request | None:
        """See `lists.next_step`."""
        return lists.next_step(settings, attempt, purpose)

    def judge_step(
        self, settings: GoogleSettings, attempt: Attempt, purpose: Purpose, request: Request, answer: Answer
    ) -> StepOutcome:
        """See `lists.judge_step`."""
        return lists.judge_step(settings, attempt, purpose, request, answer)

    def poll(self, settings: GoogleSettings, follow_up_id: str, attempt: Attempt) -> Request:
        """Ask what became of a request."""
        query = {"requestId": follow_up_id}
        return payload.api_request(settings, attempt.token, "GET", "requestStatus:retrieve", query=query)

    def judge_poll(self, settings: GoogleSettings, follow_up_id: str, answer: Answer) -> PollOutcome:
        """See `response.judge_poll`."""
        return response.judge_poll(answer)

    def strays_reason(self, settings: GoogleSettings, sync: SyncShape) -> str:
        """Google removes whoever was last added before a time: see `lists.next_step`."""
        return ""
