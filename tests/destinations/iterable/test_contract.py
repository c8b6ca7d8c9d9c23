from __future__ import annotations

import json

from destinations.iterable.definition import IterableDestination
from destinations.iterable.lists import project_scope
from destinations.iterable.settings import IterableSettings
from destinations.records import SealedBatch
from destinations.requests import Request, Response
from tests.destinations.contract_suite import ContractSuite, Example, response

HYBRID = {"api_key": "it3r-s3cret", "region": "eu", "project": "hybrid", "create_users": False}
LEARNED = {"list_id": 937_228, "project": project_scope(IterableSettings.model_validate(HYBRID))}


def taken(sealed: SealedBatch, request: Request) -> Response:
    body = {"successCount": sealed.record_count, "failCount": 0, "invalidEmails": [], "invalidUserIds": []}
    return response(200, json.dumps(body).encode())


def step_answer(request: Request) -> Response:
    return response(200, b'{"lists": []}' if request.method == "GET" else b'{"listId": 937228}')


class TestContract(ContractSuite):
    example = Example(
        IterableDestination(),
        HYBRID,
        raw=lambda number: {"email": f"user.{number}@example.org", "external_id": f"crm-{number}"},
        taken=taken,
        learned=LEARNED,
        step_answer=step_answer,
        useless=({"email": "none", "external_id": "\u00fc"},),
        secrets=("it3r-s3cret",),
    )
