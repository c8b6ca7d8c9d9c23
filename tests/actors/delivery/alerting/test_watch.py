"""Notices on their way: real requests and mails on loopback, over failures and restarts."""

from __future__ import annotations

import asyncio
import json
import smtplib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from actors.delivery.actor import DeliveryActor
from actors.delivery.alerting import watch as watch_module
from actors.delivery.alerting.mail import RefusedServerError, send_mail
from actors.delivery.alerting.rules import Notice
from actors.delivery.alerting.texts import headline, mail, slack_request
from cluster.definitions.alerting import CHANNEL_MODELS, RULE_MODELS, Alert, AlertChannel, EmailChannel, SlackChannel
from cluster.definitions.model import Definitions
from tests.actors.delivery.asking import eventually
from tests.actors.delivery.world import (
    SECRET,
    InProcessController,
    InProcessEvaluator,
    Received,
    Receiver,
    definitions,
    receiver,
    started,
    status,
)

NOTICE = Notice("alert_1", "late", "Late <again> & again", "backlog_age", "sync promo", "firing", 1_764_518_400_000,
                1_764_518_340_000, "it is\r\nBcc: late")  # fmt: skip


#: What aiosmtpd says of a server that asks for a password without encryption, as this one does on loopback.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Requiring AUTH while"), pytest.mark.filterwarnings("ignore:Session.login_data"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "LOOK_EVERY_S", 0.05)


def with_alerts(base: Definitions, rules: dict[str, dict[str, Any]], **channels: dict[str, Any]) -> Definitions:
    """Add channels by id (with their `kind`), and one alert a rule that tells all of them."""
    made = {
        id_: AlertChannel(id_, keys["kind"], CHANNEL_MODELS[keys["kind"]].model_validate(
            {"allow_private": True, **{key: value for key, value in keys.items() if key != "kind"}}
        ))
        for id_, keys in channels.items()
    }  # fmt: skip
    told = tuple(made)
    alerts = {kind: Alert(kind, kind, RULE_MODELS[kind].model_validate(rule), told) for kind, rule in rules.items()}
    return replace(base, alert_channels=made, alerts=alerts)


def notices(endpoint: Receiver) -> list[dict[str, Any]]:
    return [json.loads(each.body) for each in endpoint.received]


async def fired(actor: DeliveryActor) -> bool:
    return bool((await actor.status())["alerts"]["firing"])


async def sent(actor: DeliveryActor, channel: str, count: int) -> bool:
    rows = {row["id"]: row for row in (await actor.status())["alerts"]["channels"]}
    return channel in rows and rows[channel]["sent"] == count and rows[channel]["waiting"] == 0


def test_refused_credentials_reach_a_webhook_signed_and_their_end_too(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint, receiver() as ops:
            endpoint.answer = status(401)
            hook = {"kind": "webhook", "url": ops.url, "secret": SECRET}
            base = definitions(endpoint.url)
            controller = InProcessController(with_alerts(base, {"credentials": {}}, ops=hook))
            actor = await started(tmp_path, controller, evaluator)
            evaluator.flip("a")
            await ops.until(lambda: len(ops.received) == 1)
            await eventually(lambda: fired(actor))
            endpoint.answer = None
            await actor.retry("promo")
            await ops.until(lambda: len(ops.received) == 2)
            await eventually(lambda: sent(actor, "ops", 2))
            assert (await actor.status())["alerts"]["firing"] == []
            await actor.drain()

        firing, recovered = notices(ops)
        assert (firing["type"], firing["alert"], firing["subject"]) == ("alert.firing", "credentials", "sync promo")
        assert "401" in firing["message"]
        assert recovered["type"] == "alert.recovered"
        assert recovered["since"] == firing["since"]
        assert ops.received[0].id != ops.received[1].id

    asyncio.run(run())


def test_a_notice_that_could_not_be_sent_is_sent_after_a_restart_and_only_once(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint, receiver() as ops:
            endpoint.answer, ops.answer = status(401), status(503)
            base = definitions(endpoint.url)
            channel = {"kind": "webhook", "url": ops.url, "secret": SECRET}
            controller = InProcessController(with_alerts(base, {"credentials": {}}, ops=channel))
            first = await started(tmp_path, controller, evaluator)
            evaluator.flip("a")
            await ops.until(lambda: len(ops.received) >= 1)
            await first.abandon()
            ops.answer = None
            tries = len(ops.received)
            second = await started(tmp_path, controller, evaluator)
            await ops.until(lambda: len(ops.received) > tries)
            await eventually(lambda: sent(second, "ops", 1))
            await asyncio.sleep(0.3)
            await second.drain()
            third = await started(tmp_path, controller, evaluator)
            await eventually(lambda: fired(third))
            await asyncio.sleep(0.3)
            await third.drain()

        assert len(ops.received) == tries + 1
        assert {each.id for each in ops.received} == {ops.received[0].id}

    asyncio.run(run())


def test_a_channel_that_refuses_is_counted_and_holds_up_no_other(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint, receiver() as ops:
            endpoint.answer = status(401)

            async def by_path(request: web.Request, received: Received) -> web.StreamResponse:
                return web.Response(status=404 if "gone" in request.query else 204)

            ops.answer = by_path
            base = definitions(endpoint.url)
            gone = {"kind": "webhook", "url": f"{ops.url}?gone=1", "secret": SECRET}
            fine = {"kind": "webhook", "url": ops.url, "secret": SECRET}
            private = {"kind": "slack", "url": "http://169.254.169.254/x"}
            with pytest.raises(ValueError, match="link-local"):
                with_alerts(base, {}, private=private)
            controller = InProcessController(with_alerts(base, {"credentials": {}}, gone=gone, fine=fine))
            actor = await started(tmp_path, controller, evaluator)
            evaluator.flip("a")
            await eventually(lambda: sent(actor, "fine", 1))
            tried = [await actor.test_channel(channel) for channel in ("fine", "gone")]
            assert [(each["sent"], each["failure"]) for each in tried] == [(True, ""), (False, "it answers 404")]
            assert (await actor.test_channel("none"))["error"] == "not_found"
            await ops.until(lambda: len(ops.received) == 4)
            await eventually(lambda: sent(actor, "gone", 0))
            rows = {row["id"]: row for row in (await actor.status())["alerts"]["channels"]}
            await actor.drain()

        assert rows["gone"] == {"id": "gone", "sent": 0, "lost": 1, "failure": "it answers 404", "waiting": 0}

    asyncio.run(run())


def test_silence_and_a_late_backlog_are_seen_by_the_actor(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint, receiver() as ops:
            endpoint.answer = status(500)
            channel = {"kind": "webhook", "url": ops.url, "secret": SECRET}
            rules = {"no_events": {"for": "200ms"}, "backlog_age": {"above": "100ms"}}
            controller = InProcessController(with_alerts(definitions(endpoint.url), rules, ops=channel))
            actor = await started(tmp_path, controller, evaluator)
            evaluator.flip("a")
            await ops.until(lambda: len(ops.received) == 2)
            await actor.drain()

        assert {each["rule"]: each["subject"] for each in notices(ops)} == {
            "no_events": "events", "backlog_age": "sync promo",
        }  # fmt: skip

    asyncio.run(run())


# --- texts -----------------------------------------------------------------------------------------


def test_slack_text_is_escaped() -> None:
    settings = SlackChannel(url="https://hooks.slack.com/services/T/B/x")
    text = json.loads(slack_request(settings, NOTICE).body)["text"]
    assert text.startswith(":rotating_light: *Late &lt;again&gt; &amp; again: sync promo* firing")
    assert settings.url not in str(slack_request(settings, NOTICE))


def test_a_headline_is_one_line_and_a_mail_has_no_header_of_somebody_elses() -> None:
    message = mail(email_settings(25), NOTICE)
    assert message["Bcc"] is None
    assert message["Subject"] == "[usher] FIRING Late <again> & again: sync promo: it is Bcc: late"
    assert headline(NOTICE).startswith("[usher] FIRING")


# --- mail ------------------------------------------------------------------------------------------


class Mailbox:
    """An SMTP server on loopback that wants a login."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.envelopes.append(envelope)
        return "250 OK"

    @property
    def mails(self) -> list[EmailMessage]:
        contents = [envelope.content for envelope in self.envelopes]
        return [message_from_bytes(bytes(each), policy=policy.default) for each in contents if isinstance(each, bytes)]


@asynccontextmanager
async def mailbox() -> AsyncIterator[tuple[Mailbox, int]]:
    """Serve on a free port of loopback."""

    def check(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        # Not handled: the server itself answers.
        return AuthResult(success=isinstance(data, LoginPassword) and data.password == b"s3cret", handled=False)

    box = Mailbox()
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(box, authenticator=check, auth_required=True, auth_require_tls=False), "127.0.0.1", 0
    )
    try:
        yield box, server.sockets[0].getsockname()[1]
    finally:
        server.close()


def email_settings(port: int, **more: Any) -> EmailChannel:
    keys = {
        "allow_private": True, "host": "127.0.0.1", "port": port, "security": "none", "username": "usher",
        "password": "s3cret", "from": "usher@example.org", "to": ["ops@example.org", "on-call@example.org"],
    }  # fmt: skip
    return EmailChannel.model_validate({**keys, **more})


def test_a_mail_arrives_over_a_login(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = InProcessEvaluator()
        async with receiver() as endpoint, mailbox() as (box, port):
            endpoint.answer = status(401)
            base = definitions(endpoint.url)
            given = email_settings(port).model_dump(by_alias=True) | {"kind": "email", "password": "s3cret"}
            controller = InProcessController(with_alerts(base, {"credentials": {}}, mail=given))
            actor = await started(tmp_path, controller, evaluator)
            evaluator.flip("a")
            await eventually(lambda: sent(actor, "mail", 1))
            await actor.drain()

        (message,) = box.mails
        assert box.envelopes[0].rcpt_tos == ["ops@example.org", "on-call@example.org"]
        assert message["Subject"].startswith("[usher] FIRING credentials: sync promo: credentials:")
        assert message["Message-ID"].startswith("<alert_")
        assert "Since: 20" in message.get_content()

    asyncio.run(run())


def test_a_wrong_password_an_unencrypted_server_and_a_refused_address_are_no_mails() -> None:
    async def run() -> None:
        async with mailbox() as (box, port):
            message = mail(email_settings(port), NOTICE)
            public = email_settings(port).model_copy(update={"allow_private": False})
            for settings, error in (
                (email_settings(port, password="wr0ng"), smtplib.SMTPAuthenticationError),
                (email_settings(port, security="starttls"), smtplib.SMTPNotSupportedError),
                (public, RefusedServerError),
            ):
                with pytest.raises(error):
                    await asyncio.to_thread(send_mail, settings, message, 10)
            assert box.mails == []

    asyncio.run(run())


class Counting(InProcessEvaluator):
    """Says what it accepted, by event model."""

    def __init__(self) -> None:
        super().__init__()
        self.models = {"order": 0, "page": 0}

    async def status(self) -> dict[str, Any]:
        self.models["page"] += 1  # somebody always looks at something
        accepted = {"accepted": sum(self.models.values())}
        return {**await super().status(), "events": accepted, "arrivals": {"models": self.models, "sources": {}}}


def test_silence_of_one_event_model_is_mailed_and_its_end_after_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        evaluator = Counting()
        async with receiver() as endpoint, mailbox() as (box, port):
            given = email_settings(port).model_dump(by_alias=True) | {"kind": "email", "password": "s3cret"}
            rules = {"no_events": {"for": "300ms", "event_models": "order"}}
            controller = InProcessController(with_alerts(definitions(endpoint.url), rules, mail=given))
            first = await started(tmp_path, controller, evaluator)
            await eventually(lambda: sent(first, "mail", 1))
            await first.drain()
            second = await started(tmp_path, controller, evaluator)
            await asyncio.sleep(0.2)
            assert await fired(second), "it stands as it stood"
            evaluator.models["order"] += 1
            await eventually(lambda: sent(second, "mail", 1))
            await second.drain()

        subjects = [message["Subject"] for message in box.mails]
        assert subjects[0].startswith("[usher] FIRING no_events: event model order: no event of event model order was")
        assert subjects[1].startswith("[usher] RECOVERED no_events: event model order")

    asyncio.run(run())
