"""Notices as what a channel takes: a signed JSON request, Slack's JSON, a mail."""

from __future__ import annotations

import json
from email.message import EmailMessage
from email.utils import formatdate
from typing import Final

from actors.delivery.alerting.rules import Notice
from cluster.definitions.alerting import EmailChannel, SlackChannel, WebhookChannel
from destinations.requests import Request
from destinations.signing import sign, signing_key
from destinations.times import iso_ms

#: How long a channel may take.
TIMEOUT_MS: Final = 15_000
_MARKS: Final = {"firing": ":rotating_light:", "recovered": ":white_check_mark:"}
_SLACK_ESCAPES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


def headline(notice: Notice) -> str:
    """Give a notice in one line."""
    return f"[usher] {notice.state.upper()} {notice.name or notice.alert}: {notice.subject}: {notice.message}"


def webhook_request(settings: WebhookChannel, notice: Notice, now_ms: int) -> Request:
    """Give the request of one attempt, with the headers of Standard Webhooks."""
    body = json.dumps(
        {
            "type": f"alert.{notice.state}",
            "alert": notice.alert,
            "name": notice.name,
            "rule": notice.rule,
            "subject": notice.subject,
            "message": notice.message,
            "since": iso_ms(notice.since_ms),
            "at": iso_ms(notice.at_ms),
        },
        ensure_ascii=False,
    ).encode()
    now_s = now_ms // 1000
    headers = {
        "content-type": "application/json", "user-agent": "usher-alerts/1", "webhook-id": notice.id,
        "webhook-timestamp": str(now_s),
    }  # fmt: skip
    if settings.secret is not None:
        headers["webhook-signature"] = sign(signing_key(settings.secret.get_secret_value()), notice.id, now_s, body)
    return Request("POST", settings.url, headers, body, TIMEOUT_MS, settings.allow_private)


def slack_request(settings: SlackChannel, notice: Notice) -> Request:
    """Give the request of an incoming webhook: text in Slack's own markup."""
    first, rest = f"{notice.name or notice.alert}: {notice.subject}", notice.message
    since = iso_ms(notice.since_ms)
    text = f"{_MARKS[notice.state]} *{_escaped(first)}* {notice.state}\n{_escaped(rest)} (since {since})"
    body = json.dumps({"text": text}, ensure_ascii=False).encode()
    headers = {"content-type": "application/json", "user-agent": "usher-alerts/1"}
    return Request("POST", settings.url, headers, body, TIMEOUT_MS, settings.allow_private)


def mail(settings: EmailChannel, notice: Notice) -> EmailMessage:
    """Give the mail. Names and reasons may hold line ends, which a header must not."""
    message = EmailMessage()
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.recipients)
    message["Subject"] = " ".join(headline(notice).split())[:200]
    message["Date"] = formatdate(notice.at_ms / 1000, usegmt=True)
    message["Message-ID"] = f"<{notice.id}@usher.invalid>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(
        f"{notice.message}\n\nAlert: {notice.alert}{f' ({notice.name})' if notice.name else ''}\nRule: {notice.rule}\n"
        f"Subject: {notice.subject}\nState: {notice.state}\nSince: {iso_ms(notice.since_ms)}\n"
        f"At: {iso_ms(notice.at_ms)}\n"
    )
    return message


def _escaped(text: str) -> str:
    return text.translate(_SLACK_ESCAPES)
