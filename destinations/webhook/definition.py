"""The webhook destination: its limits, and where its settings, payload and answers are decided."""

from __future__ import annotations

from typing import Final, Literal

from destinations.contract import Batch, Limits, SealedBatch
from destinations.outcomes import Outcome
from destinations.requests import Answer, Request
from destinations.webhook.payload import build_request, encode_body
from destinations.webhook.response import judge_answer
from destinations.webhook.settings import BATCH_SIZE_MAX, WebhookSettings
from destinations.webhook.template import needs_single_change

#: Long enough to share a commit, short enough not to be seen: p50 from event to webhook is 25 ms.
BATCH_AGE_DEFAULT_MS: Final = 5


class WebhookDestination:
    """`kind: webhook`. Implements `destinations.contract.Destination`."""

    kind: Final = "webhook"
    settings_model: Final = WebhookSettings
    exits: Final = frozenset({"remove", "nothing"})
    deliver_default: Final[Literal["state", "changes"]] = "changes"
    limits: Final = Limits(BATCH_SIZE_MAX, BATCH_AGE_DEFAULT_MS)

    def batch_records(self, settings: WebhookSettings) -> int:
        """One where the body template speaks of a single change, else `batch_size`."""
        single = settings.body is not None and needs_single_change(settings.body)
        return 1 if single else settings.batch_size

    def requests_per_s(self, settings: WebhookSettings) -> float | None:
        """Give `rate_limit`."""
        return settings.rate_limit

    def secrets(self, settings: WebhookSettings) -> tuple[str, ...]:
        """The signing secret and every header's value."""
        own = [] if settings.secret is None else [settings.secret]
        return tuple(text for value in [*own, *settings.headers.values()] if (text := value.get_secret_value()))

    def encode(self, settings: WebhookSettings, batch: Batch) -> bytes:
        """Give the body."""
        return encode_body(settings, batch)

    def build(self, settings: WebhookSettings, sealed: SealedBatch, attempt_time_s: int) -> Request:
        """Give the signed request of one attempt."""
        return build_request(settings, sealed, attempt_time_s)

    def judge(self, request: Request, answer: Answer) -> tuple[Outcome, ...]:
        """Give every record the batch's outcome."""
        return judge_answer(request, answer)

