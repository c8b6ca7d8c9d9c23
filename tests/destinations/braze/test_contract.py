from __future__ import annotations

import json

from destinations.braze.definition import BrazeDestination
from destinations.records import SealedBatch
from destinations.requests import Request, Response
from tests.destinations.contract_suite import ContractSuite, Example, response


def taken(sealed: SealedBatch, request: Request) -> Response:
    return response(201, json.dumps({"message": "success", "attributes_processed": sealed.record_count}).encode())


SETTINGS = {"rest_endpoint": "rest.iad-01.braze.com", "api_key": "br4ze-s3cret"}


class TestContractOfAttributes(ContractSuite):
    example = Example(
        BrazeDestination(),
        {**SETTINGS, "rate_limit": "50/s"},
        raw=lambda number: {"external_id": f"user_{number}", "email": f"u{number}@example.org"},
        taken=taken,
        useless=({"external_id": "x" * 1000, "email": "no address"},),
        secrets=("br4ze-s3cret",),
    )


class TestContractOfEvents(ContractSuite):
    example = Example(
        BrazeDestination(),
        {**SETTINGS, "send": "event", "alias_label": "shop", "create_users": True},
        raw=lambda number: {"alias": f"alias_{number}"},
        taken=taken,
        secrets=("br4ze-s3cret",),
        on_exit="nothing",
    )
