from __future__ import annotations

from destinations.webhook.definition import WebhookDestination
from tests.destinations.contract_suite import ContractSuite, Example, response

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class TestContract(ContractSuite):
    example = Example(
        WebhookDestination(),
        {"url": "https://example.com/hook", "secret": SECRET, "headers": {"x-key": "t0ps3cret"}, "rate_limit": "5/s"},
        raw=lambda number: {"id": f"user_{number}", "mail": f"u{number}@example.org"},
        taken=lambda sealed, request: response(204),
        useless=({"id": "user_1", "mail": None}, {"id": "", "mail": "hidden@example.org"}),
        secrets=(SECRET, "t0ps3cret"),
    )
