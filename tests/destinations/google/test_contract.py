from __future__ import annotations

import json

from destinations.google.definition import GoogleDestination
from destinations.records import SealedBatch
from destinations.requests import Request, Response
from tests.destinations.contract_suite import ContractSuite, Example, response
from tests.destinations.google.keys import key_file

LEARNED = {"user_list_id": "555", "customer_id": "1234567890", "membership_status": "OPEN"}


def taken(sealed: SealedBatch, request: Request) -> Response:
    return response(200, b'{"requestId": "req-1"}')


def step_answer(request: Request) -> Response:
    return response(200, b"{}" if request.method == "GET" else b'{"id": "555", "membershipStatus": "OPEN"}')


class TestContractOfContacts(ContractSuite):
    example = Example(
        GoogleDestination(),
        {"customer_id": "123-456-7890", "service_account_key": key_file(), "accept_customer_match_terms": True,
         "rate_limit": "30/m"},
        raw=lambda number: {"email": f"user.{number}@gmail.com", "phone": f"+4930123{number:04d}",
                            "first_name": "Jane", "last_name": f"O'Brien {chr(97 + number)}", "country": "de",
                            "zip": f"{10000 + number}"},
        taken=taken,
        learned=LEARNED,
        step_answer=step_answer,
        useless=(
            {"email": "no address", "phone": "12", "first_name": "Lonely", "last_name": "Person", "country": "de",
             "zip": None},
        ),
        secrets=(json.loads(key_file())["private_key"], key_file()),
    )  # fmt: skip


class TestContractOfUserIds(ContractSuite):
    example = Example(
        GoogleDestination(),
        {"customer_id": "1234567890", "upload_key": "user_id",
         "oauth": {"client_id": "77-web.apps", "client_secret": "cl1ent-s3cret", "refresh_token": "1//r3fresh"}},
        raw=lambda number: {"external_id": f"crm-{number}"},
        taken=taken,
        learned=LEARNED,
        step_answer=step_answer,
        useless=({"external_id": "x" * 600},),
        secrets=("cl1ent-s3cret", "1//r3fresh"),
        on_exit="archive",
    )  # fmt: skip
