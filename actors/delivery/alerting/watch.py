"""Alerts at work: samples are taken, judged, and what comes of it is told, also over restarts.

What is to be told is durable before it is sent, and forgotten once a channel took it or refused it for good. Each
channel is told in order, one notice at a time, and holds up no other.
"""

from __future__ import annotations

import asyncio
import logging
import smtplib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from actors.delivery.alerting.history import Memory
from actors.delivery.alerting.mail import RefusedServerError, send_mail
from actors.delivery.alerting.rules import AlertMachine, Notice, Sample, Standing
from actors.delivery.alerting.texts import TIMEOUT_MS, headline, mail, slack_request, webhook_request
from actors.delivery.retries import backoff_ms
from actors.delivery.store import DeliveryStore
from actors.delivery.transport import HttpTransport
from cluster.clock import Clock
from cluster.definitions.alerting import AlertChannel
from cluster.definitions.model import Definitions
from destinations.requests import Request, Response
from destinations.times import iso_ms

#: How often a sample is taken.
LOOK_EVERY_S: Final = 2.0
#: How often what rules look back on is made durable.
REMEMBER_EVERY_MS: Final = 30_000
#: Notices that wait for one channel, the oldest dropped first.
WAITING_MAX: Final = 100
#: How long a notice is tried. Nobody wants to be woken by an older one.
TRIED_MAX_MS: Final = 3_600_000
_TRY_AGAIN: Final = frozenset({408, 425, 429})

_log = logging.getLogger(__name__)


class Kept(msgspec.Struct):
    """What survives a restart: standings as `(alert, subject, since, told, told at, message)`, notices by channel."""

    standings: list[tuple[str, str, int | None, bool, int | None, str]] = []
    waiting: dict[str, list[Notice]] = {}


@dataclass(slots=True)
class Counts:
    """What a channel took and did not; `failure` is why the last attempt failed, empty where it did not."""

    sent: int = 0
    lost: int = 0
    failure: str = ""


class AlertWatch:
    """Make it with open tools; `configure` it, then `start`. `sample` may raise: then nothing is judged."""

    def __init__(
        self, store: DeliveryStore, transport: HttpTransport, clock: Clock,
        sample: Callable[[bool], Awaitable[Sample]], jitter: Callable[[], float],
    ) -> None:  # fmt: skip
        self.machine = AlertMachine()
        self.counts: dict[str, Counts] = {}
        self._store = store
        self._transport = transport
        self._clock = clock
        self._sample = sample
        self._jitter = jitter
        self._channels: dict[str, AlertChannel] = {}
        self._waiting: dict[str, list[Notice]] = {}
        self._senders: dict[str, asyncio.Task[None]] = {}
        self._kept = b""
        self._remembered_ms = -float(REMEMBER_EVERY_MS)
        self._failure = ""
        self._looking: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Take up what an earlier process left."""
        self._kept = await self._store.alerts()
        if not self._kept:
            return
        kept = msgspec.json.decode(self._kept, type=Kept)
        remembered = await self._store.alerts("alerts_memory")
        memory = msgspec.msgpack.decode(remembered, type=Memory) if remembered else None
        standings = {(row[0], row[1]): Standing(*row[2:]) for row in kept.standings}
        self.machine = AlertMachine(standings, memory)
        self._waiting = kept.waiting

    def configure(self, definitions: Definitions) -> None:
        """Take changed definitions; what waits for a channel that is gone is dropped."""
        self.machine.configure(definitions.alerts.values())
        self._channels = dict(definitions.alert_channels)
        for gone in (self._waiting.keys() | self.counts.keys()) - self._channels.keys():
            self._waiting.pop(gone, None)
            self.counts.pop(gone, None)

    def start(self) -> None:
        """Begin to look, unless that was done."""
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._run(), name="alerts")

    async def stop(self) -> None:
        """Look and send no more; what waits is sent by the next process."""
        tasks = [*self._senders.values(), *([] if self._looking is None else [self._looking])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._looking is not None:
            await self._remember()

    def status(self) -> dict[str, Any]:
        """Give what is true now, and how channels fare."""
        firing = [
            {"alert": alert, "subject": subject, "since": iso_ms(standing.since_ms), "message": standing.message}
            for (alert, subject), standing in self.machine.standings.items()
            if standing.since_ms is not None
        ]
        channels = [
            {"id": channel, "sent": each.sent, "lost": each.lost, "failure": each.failure,
             "waiting": len(self._waiting.get(channel, ()))}
            for channel, each in self.counts.items()
        ]  # fmt: skip
        return {"firing": firing, "channels": channels, "failure": self._failure}

    async def try_channel(self, channel: str) -> str | None:
        """Send one channel a notice that means nothing, once; gives why it failed, empty where it did not.

        None where there is no such channel.
        """
        if channel not in self._channels:
            return None
        now_ms = self._clock.now_ms()
        notice = Notice(
            f"alert_test_{now_ms}", "test", "", "test", "nothing", "firing", now_ms, now_ms,
            "this is a test: notices of alerts reach this channel",
        )  # fmt: skip
        failure, _ = await self._send(self._channels[channel], notice)
        return failure

    # --- looking -----------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            if self.machine.wants_anything or self._waiting:
                try:
                    await self._look()
                    self._failure = ""
                except Exception as error:
                    # Whatever ails a part it says itself; rules wait for the next look, and status shows why.
                    self._say(f"the rules were not judged: {type(error).__name__}: {error}")
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        sample = await self._sample(self.machine.wants_evaluators)
        for notice, alert in self.machine.take(sample, self._clock.now_ms()):
            _log.warning("%s", headline(notice))
            for channel in alert.channels:
                self._put(channel, notice)
        await self._keep()
        if not 0 <= self._clock.monotonic_ms() - self._remembered_ms < REMEMBER_EVERY_MS:
            await self._remember()
        for channel in list(self._waiting):
            if channel not in self._senders or self._senders[channel].done():
                work = self._send_all(channel)
                self._senders[channel] = asyncio.get_running_loop().create_task(work, name=f"alerts-{channel}")

    def _put(self, channel: str, notice: Notice) -> None:
        waiting = self._waiting.setdefault(channel, [])
        waiting.append(notice)
        if len(waiting) > WAITING_MAX:
            self._lose(channel, waiting.pop(0), f"more than {WAITING_MAX} notices wait")

    async def _keep(self) -> None:
        """Make durable how everything stands, where that changed."""
        standings = [
            (alert, subject, each.since_ms, each.told, each.told_ms, each.message)
            for (alert, subject), each in self.machine.standings.items()
            if each.since_ms is not None or each.told_ms is not None
        ]
        waiting = {channel: notices for channel, notices in self._waiting.items() if notices}
        kept = msgspec.json.encode(Kept(standings, waiting))
        if kept != self._kept:
            self._kept = kept
            await self._store.set_alerts(kept)

    async def _remember(self) -> None:
        """Make durable what rules look back on; a crash loses the last half minute of it, and no standing."""
        self._remembered_ms = self._clock.monotonic_ms()
        await self._store.set_alerts(msgspec.msgpack.encode(self.machine.memory()), "alerts_memory")

    def _say(self, failure: str) -> None:
        if failure != self._failure:
            _log.warning("alerts: %s", failure)
        self._failure = failure

    # --- telling -----------------------------------------------------------------------------------

    async def _send_all(self, channel: str) -> None:
        """Send what waits for one channel, the oldest first, each until it is taken or given up."""
        tries = 0
        while (waiting := self._waiting.get(channel)) and channel in self._channels:
            notice = waiting[0]
            failure, again = await self._send(self._channels[channel], notice)
            counts = self.counts.setdefault(channel, Counts())
            counts.failure = failure
            if failure and again and self._clock.now_ms() - notice.at_ms < TRIED_MAX_MS:
                tries += 1
                await asyncio.sleep(backoff_ms(tries, self._jitter()) / 1000)
                continue
            tries = 0
            if notice in waiting:
                waiting.remove(notice)
            if failure:
                self._lose(channel, notice, failure)
            else:
                counts.sent += 1
            await self._keep()
        self._waiting.pop(channel, None)

    def _lose(self, channel: str, notice: Notice, why: str) -> None:
        self.counts.setdefault(channel, Counts()).lost += 1
        _log.error("alert channel %s was not told of %s (%s): %s", channel, notice.alert, notice.state, why)

    async def _send(self, channel: AlertChannel, notice: Notice) -> tuple[str, bool]:
        """Make one attempt; gives why it failed (empty: it did not), and whether another one may not."""
        try:
            if channel.kind == "email":
                return await self._send_mail(channel, notice)
            if channel.kind == "slack":
                return await self._post(slack_request(channel.settings, notice))
            return await self._post(webhook_request(channel.settings, notice, self._clock.now_ms()))
        except Exception as error:
            # A bug of ours must not keep everything behind it from being told.
            _log.exception("alert channel %s", channel.id)
            return f"{type(error).__name__}", False

    async def _post(self, request: Request) -> tuple[str, bool]:
        answer = await self._transport.send(request)
        if not isinstance(answer, Response):
            return answer.message, answer.code != "refused_address"
        if 200 <= answer.status < 300:
            return "", False
        return f"it answers {answer.status}", answer.status >= 500 or answer.status in _TRY_AGAIN

    async def _send_mail(self, channel: AlertChannel, notice: Notice) -> tuple[str, bool]:
        settings = channel.settings
        try:
            await asyncio.to_thread(send_mail, settings, mail(settings, notice), TIMEOUT_MS / 1000)
        except smtplib.SMTPResponseException as error:
            return f"{settings.host} answers {error.smtp_code}", error.smtp_code < 500
        except smtplib.SMTPRecipientsRefused:
            return f"{settings.host} refuses every recipient", False
        except smtplib.SMTPNotSupportedError as error:
            return f"{settings.host}: {error}", False
        except RefusedServerError as error:
            return str(error), False
        except (smtplib.SMTPException, OSError) as error:
            return f"{settings.host}: {type(error).__name__}", True
        return "", False
