from __future__ import annotations

from destinations.segment.definition import SegmentDestination
from tests.destinations.contract_suite import ContractSuite, Example, response


class TestContract(ContractSuite):
    example = Example(
        SegmentDestination(),
        {"write_key": "wr1te-s3cret", "region": "eu", "rate_limit": "100/s"},
        raw=lambda number: {"external_id": f"user_{number}", "anonymous_id": None, "email": f"u{number}@example.org"},
        taken=lambda sealed, request: response(200, b'{"success": true}'),
        useless=({"external_id": None, "anonymous_id": "", "email": "hidden@example.org"},),
        secrets=("wr1te-s3cret",),
    )
