from __future__ import annotations

import json

from destinations.facebook.definition import FacebookDestination
from destinations.records import SealedBatch
from destinations.requests import Request, Response
from tests.destinations.contract_suite import ContractSuite, Example, response

TOKEN = "EAAt0ps3cret"
APP_SECRET = "4pp-s3cret"


def taken(sealed: SealedBatch, request: Request) -> Response:
    body = {"audience_id": "238", "session_id": "1", "num_received": sealed.record_count, "num_invalid_entries": 0,
            "invalid_entry_samples": {}}  # fmt: skip
    return response(200, json.dumps(body).encode())


def step_answer(request: Request) -> Response:
    return response(200, b'{"data": [], "paging": {}}' if request.method == "GET" else b'{"id": "23840000000000001"}')


class TestContract(ContractSuite):
    example = Example(
        FacebookDestination(),
        {"access_token": TOKEN, "app_secret": APP_SECRET, "ad_account": "act_1234567890", "rate_limit": "2/s"},
        raw=lambda number: {"email": f"user.{number}@example.org", "phone": f"+4930123{number:04d}",
                            "external_id": f"crm-{number}", "last_name": f"O'Brien {number}"},
        taken=taken,
        learned={"audience_id": "23840000000000001", "ad_account": "1234567890"},
        step_answer=step_answer,
        useless=(
            {"email": "no address", "phone": "12", "external_id": None, "last_name": "Lonely"},
            {"email": None, "phone": "030 1234567", "external_id": "", "last_name": None},
        ),
        secrets=(TOKEN, APP_SECRET),
    )  # fmt: skip
