"""The Facebook destination: its limits, and where its settings, payload and answers are decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from destinations.contract import Destination, DestinationSettings, Purpose, Unusable
from destinations.facebook import audiences, identifiers, payload, response
from destinations.facebook.settings import API_VERSION, FacebookSettings
from destinations.limits import Limits, RateLimit, scope_of
from destinations.outcomes import Judgement, StepOutcome
from destinations.records import Attempt, Batch, Record, SealedBatch, SyncShape, Value
from destinations.requests import Answer, Request

ROWS_MAX: Final = 10_000
#: Meta names no limit in bytes; this one is ours, so that a request ends within its time.
BYTES_MAX: Final = 6 * 1024 * 1024
#: Changes show after hours at Meta: a batch may fill, for calls are dear.
BATCH_AGE_DEFAULT_MS: Final = 5_000
#: Changes of lists in 300 s: a tier's score (60 or 9,000 points) by 3 points a change. A quarter may go at once.
_CHANGES_BY_TIER: Final = {"limited": 20, "full": 3_000}
_SCORE_DECAY_MS: Final = 300_000


class FacebookDestination(Destination):
    """`kind: facebook`."""

    kind = "facebook"
    settings_model: ClassVar[type[DestinationSettings]] = FacebookSettings
    api_version = API_VERSION
    exit_refusals: ClassVar[Mapping[str, str]] = {"archive": "Meta has no archived custom audiences, only deleted ones"}
    identifier_fields = identifiers.IDENTIFIER_FIELDS

    def limits(self, settings: FacebookSettings) -> Limits:
        """One request at a time: Meta works on changes later, and two under way could be applied in either order."""
        return Limits(ROWS_MAX, BATCH_AGE_DEFAULT_MS, BYTES_MAX, bytes_around=payload.BYTES_AROUND, in_flight_max=1)

    def rate_limits(self, settings: FacebookSettings, sync: SyncShape) -> tuple[RateLimit, ...]:
        """The ad account's score, besides what the settings say."""
        changes = _CHANGES_BY_TIER[settings.access_tier]
        scope = scope_of(self.kind, "account", settings.ad_account)
        score = RateLimit(scope, changes, _SCORE_DECAY_MS, burst=changes // 4)
        return (score, *super().rate_limits(settings, sync))

    def identify(self, settings: FacebookSettings, raw: Mapping[str, Value]) -> Mapping[str, Any] | Unusable:
        """Normalise and hash; see `identifiers`."""
        return identifiers.identify(raw, settings.phone_region)

    def replaced(self, settings: FacebookSettings, old: Mapping[str, Any], new: Mapping[str, Any]) -> Mapping[str, Any]:
        """See `identifiers.replaced`."""
        return identifiers.replaced(old, new)

    def batch_key(self, settings: FacebookSettings, record: Record) -> str:
        """See `payload.batch_key`."""
        return payload.batch_key(record)

    def size_bytes(self, settings: FacebookSettings, record: Record) -> int:
        """See `payload.size_bytes`."""
        return payload.size_bytes(record)

    def encode(self, settings: FacebookSettings, batch: Batch) -> bytes:
        """Give the body."""
        return payload.encode(batch)

    def build(self, settings: FacebookSettings, sealed: SealedBatch, attempt: Attempt) -> Request:
        """Add or remove; the body travels as JSON with both (in a query it breaks at some 1,500 rows)."""
        method = "DELETE" if sealed.records[0].verb == "remove" else "POST"
        audience = audiences.audience_id(settings, attempt)
        assert audience is not None, "steps come first"
        return payload.graph_request(settings, method, f"{audience}/users", sealed.body)

    def judge(self, settings: FacebookSettings, sealed: SealedBatch, request: Request, answer: Answer) -> Judgement:
        """See `response.judge`."""
        return response.judge(sealed, answer)

    def example_learned(self, settings: FacebookSettings) -> Mapping[str, Any]:
        """A placeholder for the audience."""
        return {"audience_id": "CUSTOM_AUDIENCE", "ad_account": settings.ad_account}

    def next_step(self, settings: FacebookSettings, attempt: Attempt, purpose: Purpose) -> Request | None:
        """Find or make the custom audience; nothing else takes steps."""
        return audiences.next_step(settings, attempt) if purpose == "open" else None

    def judge_step(
        self, settings: FacebookSettings, attempt: Attempt, purpose: Purpose, request: Request, answer: Answer
    ) -> StepOutcome:
        """See `audiences.judge_step`."""
        return audiences.judge_step(settings, attempt, answer)

    def strays_reason(self, settings: FacebookSettings, sync: SyncShape) -> str:
        """Meta has no call for it."""
        return "Meta tells how many people an audience has, never who"
