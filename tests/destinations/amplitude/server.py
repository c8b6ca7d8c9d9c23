"""Amplitude's cohort and event APIs: what they take, what they refuse, and what they leave out."""

from __future__ import annotations

import base64
import gzip
import zlib
from typing import Any

from tests.destinations.vendor import Came, Says, Vendor

IDS_MAX = 100_000
SIGNATURE = "s1gn4ture"
EVENTS_MAX = 2_000
BYTES_MAX = 1_000_000


class AmplitudeServer(Vendor):
    """One project. `users` are those that Amplitude knows; `cohorts` holds the members of each cohort."""

    api_key = "4mp-key"
    secret_key = "4mp-s3cret"

    def __init__(self, *, users: set[str] | None = None, requests_max: int = 0) -> None:
        super().__init__()
        self.users = users or set()
        self.cohorts: dict[str, set[str]] = {}
        self.shown: dict[str, dict[str, Any]] = {}
        self.events: dict[str, dict[str, Any]] = {}
        self.silenced: set[str] = set()
        self.quota_used_up: set[str] = set()
        self.throttled = 0
        #: What listings were asked for: by request, the lines of its file and how often it is not done yet.
        self.listings: dict[str, tuple[list[str], int]] = {}
        self.looks = 1
        #: Members above which a file lies elsewhere, under a link that is its own proof.
        self.small_max = 1_000
        self.requests_max = requests_max
        self.left = requests_max

    def answer(self, came: Came) -> Says:
        if came.path.startswith("/bucket/"):
            return self._file_elsewhere(came)
        if came.path == "/2/httpapi":
            return self._take_events(came)
        pair = base64.b64encode(f"{self.api_key}:{self.secret_key}".encode()).decode()
        if came.headers.get("authorization") != f"Basic {pair}":
            return error(401, "Unauthorized")
        if self.requests_max:
            self.left -= 1
            if self.left < 0:
                self.left = self.requests_max  # the other edit is over when the caller comes back
                return error(429, "Too many requests")
        if (came.method, came.path) == ("GET", "/api/3/cohorts"):
            return Says(200, {"cohorts": list(self.shown.values())})
        if (came.method, came.path) == ("POST", "/api/3/cohorts/upload"):
            return self._upload(came.json)
        if (came.method, came.path) == ("POST", "/api/3/cohorts/membership"):
            return self._change(came.json)
        if came.method == "GET" and came.path.startswith("/api/5/cohorts/"):
            return self._list(came.path.removeprefix("/api/5/cohorts/").split("/"))
        return error(404, "Not found")

    def _list(self, path: list[str]) -> Says:
        match path:
            case ["request", cohort]:
                if cohort not in self.cohorts:
                    return error(404, "Cohort not found")
                id_ = f"req{len(self.listings)}"
                members = sorted(self.cohorts[cohort])
                rows = [f"{amplitude_id(user)},{'' if user.isdigit() else user}" for user in members]
                self.listings[id_] = (rows, self.looks)
                return Says(202, {"request_id": id_, "cohort_id": cohort})
            case ["request-status", id_] if id_ in self.listings:
                rows, looks = self.listings[id_]
                self.listings[id_] = (rows, looks - 1)
                status = "JOB INPROGRESS" if looks > 0 else "JOB COMPLETED"
                return Says(202 if looks > 0 else 200, {"request_id": id_, "async_status": status})
            case ["request", id_, "file"] if id_ in self.listings:
                rows, looks = self.listings[id_]
                if looks >= 0:
                    return error(400, "The file is not ready")
                if len(rows) > self.small_max:
                    return Says(302, b"", {"location": f"{self.url}/bucket/{id_}.csv?X-Amz-Signature={SIGNATURE}"})
                return Says(200, self._file(rows), {"content-type": "text/csv"})
        return error(404, "Not found")

    def _file_elsewhere(self, came: Came) -> Says:
        if "authorization" in came.headers or came.query.get("X-Amz-Signature") != SIGNATURE:
            return Says(403, b"<Error><Code>AccessDenied</Code></Error>")
        rows, _ = self.listings[came.path.removeprefix("/bucket/").removesuffix(".csv")]
        return Says(200, gzip.compress(self._file(rows)), {"content-type": "binary/octet-stream"})

    @staticmethod
    def _file(rows: list[str]) -> bytes:
        return "".join(f"{row}\n" for row in ["amplitude_id,user_id", *rows]).encode()

    def _upload(self, body: dict[str, Any]) -> Says:
        wanted = {"name", "app_id", "id_type", "ids", "owner", "published"}
        if wanted - set(body) or set(body) - wanted - {"skip_invalid_ids", "existing_cohort_id", "cg"}:
            return error(400, "Invalid parameters")
        if body["id_type"] not in ("BY_USER_ID", "BY_AMP_ID") or not isinstance(body["app_id"], int):
            return error(400, "Invalid parameters")
        known = [id_ for id_ in body["ids"] if id_ in self.users]
        if len(known) < len(body["ids"]) and not body.get("skip_invalid_ids"):
            return error(400, "Some ids are not valid")
        if not known or len(body["ids"]) > IDS_MAX:
            return error(400, "A cohort needs at least one valid id")
        id_ = f"c{len(self.cohorts)}xyz"
        self.cohorts[id_] = set(known)
        self.shown[id_] = {"id": id_, "name": body["name"], "appId": body["app_id"], "archived": False,
                           "description": "", "owners": [body["owner"]], "size": len(known)}  # fmt: skip
        return Says(200, {"cohortId": id_})

    def _change(self, body: dict[str, Any]) -> Says:
        if body.get("cohort_id") not in self.cohorts:
            return error(404, "Cohort not found")
        members, results = self.cohorts[body["cohort_id"]], []
        for change in body["memberships"]:
            if change["id_type"] not in ("BY_NAME", "BY_ID") or change["operation"] not in ("ADD", "REMOVE"):
                return error(400, "Invalid membership")
            if len(change["ids"]) > IDS_MAX:
                return error(400, "Too many ids")
            names = change["ids"]
            if change["id_type"] == "BY_ID":
                by_id = {amplitude_id(user): user for user in self.users}
                names = [by_id.get(id_, f"no such {id_}") for id_ in names]
            known = [id_ for id_ in names if id_ in self.users]
            skipped = [id_ for id_ in names if id_ not in self.users]
            if skipped and not body.get("skip_invalid_ids"):
                return error(400, "Some ids are not valid")
            if change["operation"] == "ADD":
                members.update(known)
            else:
                members.difference_update(known)
            results.append({"skipped_ids": skipped, "id_type": change["id_type"], "operation": change["operation"]})
        return Says(200, {"cohort_id": body["cohort_id"], "memberships_result": results})

    def _take_events(self, came: Came) -> Says:
        body = came.json
        if body.get("api_key") != self.api_key:
            return Says(400, {"code": 400, "error": f"Invalid API key: {body.get('api_key')}"})
        events = body.get("events")
        if not events:
            return Says(400, {"code": 400, "error": "Request missing required field", "missing_field": "events"})
        if len(events) > EVENTS_MAX or len(came.body) > BYTES_MAX:
            return Says(413, {"code": 413, "error": "Payload too large"})
        if self.throttled:
            self.throttled -= 1
            named = [index for index, event in enumerate(events) if event.get("user_id") in self.quota_used_up]
            return Says(429, {
                "code": 429, "error": "Too many requests for some devices and users", "eps_threshold": 30,
                "throttled_users": {}, "throttled_devices": {}, "throttled_events": named,
                "exceeded_daily_quota_users": dict.fromkeys(self.quota_used_up, 500_001),
                "exceeded_daily_quota_devices": {},
            })  # fmt: skip
        shortest = body.get("options", {}).get("min_id_length", 5)
        short = [i for i, event in enumerate(events) if 0 < len(event.get("user_id", "")) < shortest]
        missing = [i for i, event in enumerate(events) if not event.get("user_id") and not event.get("device_id")]
        invalid = [i for i, event in enumerate(events) if not isinstance(event.get("time"), int)]
        silenced = [i for i, event in enumerate(events) if event.get("user_id") in self.silenced]
        if short or missing or invalid or silenced:
            return Says(400, {
                "code": 400, "error": "Invalid or missing fields", "missing_field": None,
                "events_with_invalid_fields": {"time": invalid} if invalid else {},
                "events_with_missing_fields": {"user_id": missing} if missing else {},
                "events_with_invalid_id_lengths": {"user_id": short} if short else {},
                "silenced_events": silenced,
            })  # fmt: skip
        for event in events:
            self.events.setdefault(event["insert_id"], event)
        return Says(200, {"code": 200, "events_ingested": len(events), "payload_size_bytes": len(came.body),
                          "server_upload_time": 1_795_428_000_000})  # fmt: skip


def amplitude_id(user: str) -> str:
    """Amplitude's own id of somebody; who has no user id is called by it here."""
    return user if user.isdigit() else str(1_000_000 + zlib.crc32(user.encode()))


def error(status: int, message: str) -> Says:
    return Says(status, {"error": {"message": message, "code": status, "metadata": {}}})
