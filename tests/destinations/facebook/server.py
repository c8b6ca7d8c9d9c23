"""Meta's Graph API as far as custom audiences go: what it takes, what it refuses and how it says so.

Shapes of answers and the rule about empty external ids are those of recorded traffic, codes those of the references.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from typing import Any

from tests.destinations.vendor import Came, Says, Vendor

HASHED = {"EMAIL", "PHONE", "GEN", "DOBY", "DOBM", "DOBD", "FN", "LN", "FI", "CT", "ST", "ZIP", "COUNTRY"}
PLAIN = {"EXTERN_ID", "MADID"}
ROWS_MAX = 10_000


class FacebookServer(Vendor):
    """One ad account. `lists` holds each audience's identifiers as (key, value)."""

    token = "EAAt0ps3cret"
    app_secret = "4pp-s3cret"
    account = "1234567890"

    def __init__(self, *, score_max: int = 0, wants_proof: bool = False, audiences: int = 0) -> None:
        super().__init__()
        self.audiences: dict[str, dict[str, str]] = {}
        self.lists: dict[str, set[tuple[str, str]]] = {}
        self.score_max = score_max
        self.score = 0
        self.wants_proof = wants_proof
        self.accepted_terms = True
        for number in range(audiences):
            self._make({"name": f"other {number}", "description": ""})

    def answer(self, came: Came) -> Says:
        refusal = self._refusal(came)
        if refusal is not None:
            return refusal
        path = came.path.removeprefix("/v26.0/")
        if path == f"act_{self.account}/customaudiences":
            return self._list(came) if came.method == "GET" else self._create(came)
        match = re.fullmatch(r"([0-9]+)/users", path)
        if match is None or match[1] not in self.audiences:
            return error(100, "Unsupported request. Object does not exist or is not permitted", subcode=33)
        return self._change(came, match[1])

    def _refusal(self, came: Came) -> Says | None:
        if not came.path.startswith("/v26.0/"):
            return error(2635, "You are calling a deprecated version of the Ads API")
        if came.headers.get("authorization") != f"Bearer {self.token}":
            return error(190, "Error validating access token: the session is invalid", status=401, subcode=460)
        proof = hmac.new(self.app_secret.encode(), self.token.encode(), hashlib.sha256).hexdigest()
        if came.query.get("appsecret_proof", proof if not self.wants_proof else "") != proof:
            return error(100, "Invalid appsecret_proof provided in the API argument")
        if came.method != "GET" and self.score_max:
            self.score += 3
            if self.score > self.score_max:
                self.score = 0  # the block is over when the caller comes back
                return error(80003, "There have been too many calls to this ad-account.", subcode=2446079,
                             headers=self._usage(100, regain=5))  # fmt: skip
        return None

    def _usage(self, percent: int, regain: int = 0) -> dict[str, str]:
        usage = [{"type": "custom_audience", "call_count": percent, "total_cputime": 1, "total_time": 1,
                  "estimated_time_to_regain_access": regain}]  # fmt: skip
        return {
            "X-Business-Use-Case-Usage": json.dumps({self.account: usage}),
            "X-Ad-Account-Usage": json.dumps({"acc_id_util_pct": percent}),
            "x-fb-trace-id": f"T{len(self.came)}",
        }

    def _list(self, came: Came) -> Says:
        limit, start = int(came.query.get("limit", 25)), int(came.query.get("after", 0))
        ids = list(self.audiences)[start : start + limit]
        fields = came.query.get("fields", "id").split(",")
        data = [{name: {**self.audiences[id_], "id": id_}[name] for name in fields} for id_ in ids]
        paging: dict[str, Any] = {"cursors": {"before": str(start), "after": str(start + len(ids))}}
        if start + len(ids) < len(self.audiences):
            paging["next"] = "https://graph.facebook.com/next"
        return Says(200, {"data": data, "paging": paging}, self._usage(3))

    def _create(self, came: Came) -> Says:
        body = came.json
        if not self.accepted_terms:
            return error(2655, "Terms of service has not been accepted")
        sources = {"USER_PROVIDED_ONLY", "PARTNER_PROVIDED_ONLY", "BOTH_USER_AND_PARTNER_PROVIDED"}
        if not body.get("name") or body.get("subtype") != "CUSTOM" or body.get("customer_file_source") not in sources:
            return error(100, "Invalid parameter")
        return Says(200, {"id": self._make(body)}, self._usage(3))

    def _make(self, body: dict[str, Any]) -> str:
        id_ = str(23_840_000_000_000_000 + len(self.audiences))
        self.audiences[id_] = {"name": body["name"], "description": body.get("description", "")}
        self.lists[id_] = set()
        return id_

    def _change(self, came: Came, audience: str) -> Says:
        if came.method not in ("POST", "DELETE"):
            return error(100, "Unsupported method")
        payload = (came.json or {}).get("payload", {})
        schema, data = payload.get("schema"), payload.get("data")
        if not isinstance(schema, list) or set(schema) - HASHED - PLAIN or len(set(schema)) < len(schema):
            return error(100, "Invalid parameter: schema")
        if not data or any(len(row) != len(schema) for row in data):
            return error(100, "Data is missing or does not match schema")
        if len(data) > ROWS_MAX:
            return error(100, "Too many rows")
        samples: dict[str, str] = {}
        invalid = 0
        for row in data:
            reason = _fault(schema, row)
            if reason:
                invalid += 1
                if len(samples) < 10:
                    samples[json.dumps(row, separators=(",", ":"))] = reason
                continue
            pairs = {(key, value) for key, value in zip(schema, row, strict=True) if value}
            self.lists[audience] = (
                self.lists[audience] | pairs if came.method == "POST" else self.lists[audience] - pairs
            )
        body = {"audience_id": audience, "session_id": "123", "num_received": len(data), "num_invalid_entries": invalid,
                "invalid_entry_samples": samples}  # fmt: skip
        return Says(200, body, self._usage(min(99, self.score)))


def _fault(schema: list[str], row: list[str]) -> str:
    values = dict(zip(schema, row, strict=True))
    if values.get("EXTERN_ID") == "":
        return "empty external ID"
    if not any(values.values()):
        return "empty row"
    for key, value in values.items():
        if key in HASHED and value and not re.fullmatch("[0-9a-f]{64}", value):
            return "invalid hash"
        if key == "MADID" and value and not re.fullmatch("[0-9a-f-]{36}", value):
            return "invalid device ID"
    return ""


def error(
    code: int, message: str, *, status: int = 400, subcode: int | None = None, headers: dict[str, str] | None = None
) -> Says:
    """Meta's envelope."""
    body: dict[str, Any] = {"message": message, "type": "OAuthException", "code": code, "fbtrace_id": "AbC"}
    if subcode is not None:
        body["error_subcode"] = subcode
    return Says(status, {"error": body}, headers or {})
