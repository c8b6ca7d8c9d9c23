"""Google's token server and Data Manager API, as far as user lists go.

Every body goes through the real protobuf messages, which refuse unknown fields and wrong types. What is ingested is
worked off later, in order, as the API's own documentation has it.
"""

from __future__ import annotations

import base64
import json
import re
import warnings
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from google.protobuf import json_format

from tests.destinations.vendor import Came, Says, Vendor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # grpc warns of versions when it is imported
    from google.ads import datamanager_v1 as api

SCOPE = "https://www.googleapis.com/auth/datamanager"
HEX = re.compile("[0-9a-f]+")


@dataclass
class Request:
    """An accepted request: what it will do, and after how many questions it is done."""

    apply: Any
    questions_left: int
    body: dict[str, Any] = field(default_factory=dict)


class GoogleServer(Vendor):
    """One Google Ads account under one manager. `lists` holds each list's identifiers with the time they were added."""

    account = "1234567890"
    manager = "9876543210"

    def __init__(self, *, public_key: RSAPublicKey | None = None, polls: int = 1, per_minute: int = 0) -> None:
        super().__init__()
        self.public_key = public_key
        self.tokens: set[str] = set()
        self.tokens_given = 0
        self.user_lists: dict[str, dict[str, Any]] = {}
        self.lists: dict[str, dict[str, int]] = {}
        self.requests: dict[str, Request] = {}
        self.polls = polls
        self.per_minute = per_minute
        self.mutates = 0
        self.clock_ms = 1_000
        self.terms_signed = True

    def answer(self, came: Came) -> Says:
        if came.path == "/token":
            return self._token(came)
        if came.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        path = came.path.removeprefix("/v1/")
        if path == f"accountTypes/GOOGLE_ADS/accounts/{self.account}/userLists":
            return self._list_service(came)
        match = re.fullmatch(f"accountTypes/GOOGLE_ADS/accounts/{self.account}/userLists/([0-9]+)", path)
        if match is not None and came.method == "PATCH":
            return self._patch(came, match[1])
        if path == "requestStatus:retrieve":
            return self._status(came.query.get("requestId", ""))
        calls = {
            "audienceMembers:ingest": (api.IngestAudienceMembersRequest, self._ingest),
            "audienceMembers:remove": (api.RemoveAudienceMembersRequest, self._remove),
            "audienceMembers:removeAll": (api.RemoveAllAudienceMembersRequest, self._remove_all),
        }
        if path not in calls or came.method != "POST":
            return error(404, "NOT_FOUND", "Requested entity was not found.", reason="NOT_FOUND")
        self.mutates += 1
        if self.per_minute and self.mutates > self.per_minute:
            self.mutates = 0  # the minute is over when the caller comes back
            metadata = {"quota_limit": "IngestionMutateRequestsPerMinutePerProject"}
            return error(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", reason="RATE_LIMIT_EXCEEDED", metadata=metadata)
        message, call = calls[path]
        parsed = parse(came, message)
        return parsed if isinstance(parsed, Says) else call(parsed)

    def settle(self) -> None:
        """Work everything off, in the order in which it came."""
        for request in self.requests.values():
            self._finish(request)

    # --- tokens ------------------------------------------------------------------------------------

    def _token(self, came: Came) -> Says:
        form = {name: values[0] for name, values in parse_qs(came.body.decode()).items()}
        if form.get("grant_type") == "refresh_token":
            wanted = {"client_id": "77-web.apps", "client_secret": "cl1ent-s3cret", "refresh_token": "1//r3fresh"}
            if any(form.get(name) != value for name, value in wanted.items()):
                return Says(400, {"error": "invalid_grant", "error_description": "Bad Request"})
        elif not self._signed(form):
            return Says(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
        self.tokens_given += 1
        token = f"ya29.t0ken{self.tokens_given}"
        self.tokens.add(token)
        return Says(200, {"access_token": token, "expires_in": 3599, "token_type": "Bearer", "scope": SCOPE})

    def _signed(self, form: dict[str, str]) -> bool:
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" or self.public_key is None:
            return False
        signed, _, signature = form["assertion"].rpartition(".")
        try:
            self.public_key.verify(_unpadded(signature), signed.encode(), PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        claims = json.loads(_unpadded(signed.split(".")[1]))
        good = claims["iss"].endswith(".iam.gserviceaccount.com") and claims["scope"] == SCOPE
        return good and claims["aud"] == f"{self.url}/token" and 0 < claims["exp"] - claims["iat"] <= 3600

    # --- lists -------------------------------------------------------------------------------------

    def _list_service(self, came: Came) -> Says:
        wanted = f"accountTypes/GOOGLE_ADS/accounts/{self.manager}"
        if came.headers.get("login-account", wanted) != wanted:
            return error(403, "PERMISSION_DENIED", "The caller does not have permission.")
        if came.method == "GET":
            match = re.fullmatch(r'integration_code = (".*")', came.query.get("filter", ""))
            if match is None:
                return error(400, "INVALID_ARGUMENT", "Invalid filter.", reason="INVALID_FILTER")
            code = json.loads(match[1])
            found = [entry for entry in self.user_lists.values() if entry.get("integrationCode") == code]
            return Says(200, {"userLists": found} if found else {})
        parsed = parse(came, api.UserList)
        if isinstance(parsed, Says):
            return parsed
        duration_s = parsed.membership_duration.seconds
        if duration_s % 86_400:
            return violation("membership_duration", "INVALID_FORMAT")
        if duration_s > 540 * 86_400:
            return violation("membership_duration", "MEMBERSHIP_DURATION_TOO_LONG")
        info = parsed.ingested_user_list_info
        kinds = [name for name in ("contact_id_info", "mobile_id_info", "user_id_info") if info.HasField(name)]
        if len(kinds) != 1 or len(info.upload_key_types) != 1:
            return violation("ingested_user_list_info", "UNSUPPORTED_INGESTED_USER_LIST_INFO_CONFIG")
        if any(entry["displayName"] == parsed.display_name for entry in self.user_lists.values()):
            return violation("display_name", "DISPLAY_NAME_ALREADY_USED")
        id_ = str(555 + len(self.user_lists))
        self.user_lists[id_] = {
            "name": f"accountTypes/GOOGLE_ADS/accounts/{self.account}/userLists/{id_}", "id": id_, **came.json,
        }  # fmt: skip
        self.lists[id_] = {}
        return Says(200, self.user_lists[id_])

    def _patch(self, came: Came, id_: str) -> Says:
        parsed = parse(came, api.UserList)
        if isinstance(parsed, Says):
            return parsed
        if id_ not in self.user_lists:
            return error(404, "NOT_FOUND", "Requested entity was not found.", reason="NOT_FOUND")
        if came.query.get("updateMask") != "membershipStatus":
            return violation("update_mask", "INVALID_UPDATE_MASK")
        self.user_lists[id_]["membershipStatus"] = came.json["membershipStatus"]
        return Says(200, self.user_lists[id_])

    # --- members -----------------------------------------------------------------------------------

    def _ingest(self, parsed: Any) -> Says:
        refusal = self._refusal(parsed)
        if refusal is not None:
            return refusal
        signed = api.TermsOfServiceStatus.ACCEPTED
        contact = any(member.WhichOneof("data") != "user_id_data" for member in parsed.audience_members)
        if contact and parsed.terms_of_service.customer_match_terms_of_service_status != signed:
            return violation("terms_of_service", "TERMS_AND_CONDITIONS_NOT_SIGNED")
        id_ = parsed.destinations[0].product_destination_id
        if self.user_lists[id_]["membershipStatus"] == "CLOSED":
            return violation("destinations[0].product_destination_id", "INVALID_USER_LIST_ID")
        values = [value for member in parsed.audience_members for value in values_of(member)]
        added_ms = self.clock_ms
        if parsed.consent.ad_user_data == api.ConsentStatus.CONSENT_DENIED:
            counts = [{"recordCount": str(len(parsed.audience_members)),
                       "reason": "PROCESSING_ERROR_REASON_DENIED_CONSENT"}]  # fmt: skip
            return self._accept(lambda: None, {"requestStatus": "FAILED", "errorInfo": {"errorCounts": counts}})
        return self._accept(lambda: self.lists[id_].update(dict.fromkeys(values, added_ms)))

    def _remove(self, parsed: Any) -> Says:
        refusal = self._refusal(parsed)
        if refusal is not None:
            return refusal
        id_ = parsed.destinations[0].product_destination_id
        values = [value for member in parsed.audience_members for value in values_of(member)]

        def apply() -> None:
            for value in values:
                self.lists[id_].pop(value, None)

        return self._accept(apply)

    def _remove_all(self, parsed: Any) -> Says:
        refusal = self._destination_refusal(parsed)
        if refusal is not None:
            return refusal
        id_, before_ms = parsed.destinations[0].product_destination_id, parsed.remove_as_of_time.ToMilliseconds()

        def apply() -> None:
            self.lists[id_] = {value: at_ms for value, at_ms in self.lists[id_].items() if at_ms >= before_ms}

        return self._accept(apply)

    def _refusal(self, parsed: Any) -> Says | None:
        refusal = self._destination_refusal(parsed)
        if refusal is not None:
            return refusal
        if not parsed.audience_members:
            return violation("audience_members", "REQUIRED_FIELD_MISSING")
        if len(parsed.audience_members) > 10_000:
            return violation("audience_members", "TOO_MANY_AUDIENCE_MEMBERS")
        kinds = {member.WhichOneof("data") for member in parsed.audience_members}
        if len(kinds - {None}) > 1:
            return violation("audience_members", "MULTIPLE_DATA_TYPES_NOT_ALLOWED")
        if "composite_data" in kinds and parsed.encoding != api.Encoding.HEX:
            return violation("encoding", "REQUIRED_FIELD_MISSING")
        faults = [
            {"field": f"audience_members[{index}]{path}", "description": f"bad {path}", "reason": reason}
            for index, member in enumerate(parsed.audience_members)
            for path, reason in member_faults(member)
        ]
        return violations(faults) if faults else None

    def _destination_refusal(self, parsed: Any) -> Says | None:
        if len(parsed.destinations) != 1:
            return violation("destinations", "INVALID_DESTINATION")
        (found,) = parsed.destinations
        if found.operating_account.account_id != self.account:
            return error(403, "PERMISSION_DENIED", "The caller does not have permission.")
        if found.HasField("login_account") and found.login_account.account_id != self.manager:
            return violation("destinations[0].login_account", "OPERATING_ACCOUNT_LOGIN_ACCOUNT_MISMATCH")
        if not self.terms_signed:
            return violation("destinations[0]", "TERMS_AND_CONDITIONS_NOT_SIGNED")
        if found.product_destination_id not in self.lists:
            return violation("destinations[0].product_destination_id", "INVALID_USER_LIST_ID")
        return None

    # --- requests that are worked off later --------------------------------------------------------

    def _accept(self, apply: Any, status: dict[str, Any] | None = None) -> Says:
        id_ = f"req-{len(self.requests)}"
        self.requests[id_] = Request(apply, self.polls, status or {"requestStatus": "SUCCESS"})
        return Says(200, {"requestId": id_})

    def _finish(self, request: Request) -> None:
        if request.apply is not None:
            request.apply()
            request.apply = None

    def _status(self, id_: str) -> Says:
        request = self.requests.get(id_)
        if request is None:
            return error(400, "INVALID_ARGUMENT", "Invalid request id.", reason="INVALID_REQUEST_ID")
        if request.questions_left > 0:
            request.questions_left -= 1
            status: dict[str, Any] = {"requestStatus": "PROCESSING"}
        else:
            for earlier in self.requests.values():
                self._finish(earlier)
                if earlier is request:
                    break
            status = request.body
        body = {"requestStatusPerDestination": [status]}
        json_format.ParseDict(body, api.RetrieveRequestStatusResponse.pb()())
        return Says(200, body)


def parse(came: Came, message: Any) -> Any:
    """Read a body as the real message; what it does not know is refused as Google refuses it."""
    try:
        return json_format.Parse(came.body, message.pb()())
    except json_format.ParseError as fault:
        return error(400, "INVALID_ARGUMENT", f"Invalid JSON payload received. {fault}")


def values_of(member: Any) -> list[str]:
    """Everything that identifies a member, as one text each."""
    kind = member.WhichOneof("data")
    if kind == "mobile_data":
        return list(member.mobile_data.mobile_ids)
    if kind == "user_id_data":
        return [member.user_id_data.user_id]
    found = []
    for identifier in member.composite_data.user_data.user_identifiers:
        one = identifier.WhichOneof("identifier")
        value = getattr(identifier, one)
        found.append("|".join([value.given_name, value.family_name, value.region_code, value.postal_code])
                     if one == "address" else value)  # fmt: skip
    return found


def member_faults(member: Any) -> list[tuple[str, str]]:
    kind = member.WhichOneof("data")
    if kind is None:
        return [("", "INVALID_AUDIENCE_MEMBER")]
    if kind == "mobile_data":
        bad = [id_ for id_ in member.mobile_data.mobile_ids if not re.fullmatch("[0-9a-f-]{36}", id_)]
        return [(".mobile_data", "INVALID_MOBILE_ID_FORMAT")] if bad else []
    if kind == "user_id_data":
        return [] if member.user_id_data.user_id else [(".user_id_data", "REQUIRED_FIELD_MISSING")]
    found = member.composite_data.user_data.user_identifiers
    if not found:
        return [(".composite_data.user_data", "NO_IDENTIFIERS_PROVIDED")]
    if len(found) > 10:
        return [(".composite_data.user_data", "TOO_MANY_USER_IDENTIFIERS")]
    faults = []
    for index, identifier in enumerate(found):
        place = f".composite_data.user_data.user_identifiers[{index}]"
        one = identifier.WhichOneof("identifier")
        hashes = [identifier.address.given_name, identifier.address.family_name] if one == "address" else [
            getattr(identifier, one)
        ]  # fmt: skip
        for value in hashes:
            if not HEX.fullmatch(value):
                faults.append((f"{place}.{one}", "INVALID_HEX_ENCODING"))
            elif len(value) != 64:
                faults.append((f"{place}.{one}", "INVALID_SHA256_FORMAT"))
        if one == "address" and not (identifier.address.region_code and identifier.address.postal_code):
            faults.append((f"{place}.address", "REQUIRED_FIELD_MISSING"))
    return faults


def error(
    status: int, word: str, message: str, *, reason: str = "", metadata: dict[str, str] | None = None
) -> Says:
    """Google's error model."""
    details: list[dict[str, Any]] = [{"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "rq-1"}]
    if reason:
        details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason,
                        "domain": "datamanager.googleapis.com", "metadata": metadata or {}})  # fmt: skip
    return Says(status, {"error": {"code": status, "message": message, "status": word, "details": details}})


def violation(place: str, reason: str) -> Says:
    """A request that is refused for one field."""
    return violations([{"field": place, "description": "bad", "reason": reason}])


def violations(faults: list[dict[str, str]]) -> Says:
    """A request that is refused for some fields."""
    details = [
        {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "INVALID_ARGUMENT",
         "domain": "datamanager.googleapis.com"},
        {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "rq-1"},
        {"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": faults},
    ]  # fmt: skip
    body = {"error": {"code": 400, "message": "There was a problem with the request.", "status": "INVALID_ARGUMENT",
                      "details": details}}  # fmt: skip
    return Says(400, body)


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
