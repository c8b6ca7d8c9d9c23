"""The webhook destination: its limits, and where its settings, payload and answers are decided."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from destinations.contract import Destination, DestinationSettings
from destinations.limits import Limits
from destinations.outcomes import Judgement, for_all
from destinations.records import Attempt, Batch, SealedBatch, SyncShape
from destinations.requests import Answer, Request
from destinations.webhook.payload import build_request, encode_body
from destinations.webhook.response import judge_answer
from destinations.webhook.settings import BATCH_SIZE_MAX, WebhookSettings
from destinations.webhook.template import needs_single_change

#: Long enough to share a commit, short enough not to be seen: p50 from event to webhook is 25 ms.
BATCH_AGE_DEFAULT_MS: Final = 5


class WebhookDestination(Destination):
    """`kind: webhook`."""

    kind = "webhook"
    settings_model: ClassVar[type[DestinationSettings]] = WebhookSettings

    def deliver_default(self, settings: WebhookSettings) -> Literal["state", "changes"]:
        """Every change is sent."""
        return "changes"

    def limits(self, settings: WebhookSettings) -> Limits:
        """One record a request where the body template speaks of a single change, else `batch_size`."""
        single = settings.body is not None and needs_single_change(settings.body)
        default = 1 if single else settings.batch_size
        return Limits(1 if single else BATCH_SIZE_MAX, BATCH_AGE_DEFAULT_MS, records_default=default)

    def encode(self, settings: WebhookSettings, batch: Batch) -> bytes:
        """Give the body."""
        return encode_body(settings, batch)

    def build(self, settings: WebhookSettings, sealed: SealedBatch, attempt: Attempt) -> Request:
        """Give the signed request of one attempt."""
        return build_request(settings, sealed, attempt.now_s)

    def judge(self, settings: WebhookSettings, sealed: SealedBatch, request: Request, answer: Answer) -> Judgement:
        """Give every record the batch's outcome: a webhook takes a batch whole or not at all."""
        return for_all(judge_answer(answer), sealed.record_count)

    def strays_reason(self, settings: WebhookSettings, sync: SyncShape) -> str:
        """There is nothing to ask."""
        return "an endpoint of yours is told of changes, and is not asked"
