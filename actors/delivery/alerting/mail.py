"""A mail handed to an SMTP server whose address is checked as those of destinations are. It blocks: use a thread."""

from __future__ import annotations

import smtplib
import socket
import ssl
from email.message import EmailMessage
from typing import Any

from cluster.definitions.alerting import EmailChannel
from destinations.ssrf import refused_address, refused_host


class RefusedServerError(OSError):
    """The server's name leads to an address that nothing of ours may connect to."""


def send_mail(settings: EmailChannel, message: EmailMessage, timeout_s: float) -> None:
    """Hand a mail in; raises OSError or smtplib.SMTPException. The server's certificate must be good."""
    context = ssl.create_default_context()
    tls = settings.security == "tls"
    server: smtplib.SMTP = _TlsServer(settings, timeout_s, context) if tls else _Server(settings, timeout_s)
    with server:
        if settings.security == "starttls":
            server.starttls(context=context)
        if settings.username is not None and settings.password is not None:
            server.login(settings.username, settings.password.get_secret_value())
        refused = server.send_message(message)
    if refused:
        # Some recipients got it: to send it again would be to tell them twice.
        codes = ", ".join(sorted({str(code) for code, _ in refused.values()}))
        raise smtplib.SMTPResponseException(550, f"{len(refused)} recipients were refused ({codes})".encode())


class _Server(smtplib.SMTP):
    """Connects to no other address than one that was checked."""

    def __init__(self, settings: EmailChannel, timeout_s: float) -> None:
        self._allow_private = settings.allow_private
        super().__init__(settings.host, settings.port, timeout=timeout_s)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        return _connected(host, port, timeout, allow_private=self._allow_private)


class _TlsServer(smtplib.SMTP_SSL):
    """The same, encrypted from the first byte."""

    def __init__(self, settings: EmailChannel, timeout_s: float, context: ssl.SSLContext) -> None:
        self._allow_private = settings.allow_private
        super().__init__(settings.host, settings.port, timeout=timeout_s, context=context)

    def _get_socket(self, host: str, port: int, timeout: float) -> Any:
        plain = _connected(host, port, timeout, allow_private=self._allow_private)
        return self.context.wrap_socket(plain, server_hostname=host)


def _connected(host: str, port: int, timeout_s: float, *, allow_private: bool) -> socket.socket:
    reason = refused_host(host, allow_private=allow_private)
    found = [] if reason else socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for _, _, _, _, address in found:
        reason = reason or refused_address(str(address[0]), allow_private=allow_private)
    if reason:
        message = f"{host} is refused: {reason}"
        raise RefusedServerError(message)
    error: OSError | None = None
    for _, _, _, _, address in found:
        try:
            return socket.create_connection((str(address[0]), port), timeout_s)
        except OSError as failed:
            error = failed
    raise error or OSError(f"{host} has no address")
