from __future__ import annotations

import json

from destinations.amplitude.definition import AmplitudeDestination
from destinations.amplitude.settings import AmplitudeSettings
from destinations.records import SealedBatch
from destinations.requests import Request, Response
from tests.destinations.contract_suite import ContractSuite, Example, response

COHORT = {"api_key": "4mp-key", "secret_key": "4mp-s3cret", "app_id": 414, "owner": "jo@shop.example"}
PROJECT = AmplitudeSettings.model_validate(COHORT).project


def taken(sealed: SealedBatch, request: Request) -> Response:
    return response(200, json.dumps({"cohort_id": "c1", "memberships_result": [{"skipped_ids": []}]}).encode())


class TestContractOfCohorts(ContractSuite):
    example = Example(
        AmplitudeDestination(),
        {**COHORT, "rate_limit": "1/s"},
        raw=lambda number: {"external_id": f"user_{number}"},
        taken=taken,
        learned={"cohort_id": "c1xyz", "project": PROJECT},
        step_answer=lambda request: response(200, b'{"cohorts": []}'),
        useless=({"external_id": "x" * 600},),
        secrets=("4mp-key", "4mp-s3cret"),
    )


class TestContractOfEvents(ContractSuite):
    example = Example(
        AmplitudeDestination(),
        {"api_key": "4mp-key", "send": "event", "region": "eu"},
        raw=lambda number: {"external_id": None if number % 2 else f"user_{number}", "device_id": f"device-{number}"},
        taken=lambda sealed, request: response(200, b'{"code": 200}'),
        secrets=("4mp-key",),
    )
