"""Access tokens: a service account's assertion, or an OAuth client's refresh token."""

from __future__ import annotations

from destinations.google.settings import SCOPE, GoogleSettings
from destinations.limits import scope_of
from destinations.requests import Request
from destinations.tokens import assertion_request, refresh_token_request


def token_scope(settings: GoogleSettings) -> str:
    """Name the token: destinations with the same credentials share it."""
    if settings.oauth is None:
        key = settings.key_parts
        return scope_of("google", "app", "token", settings.token_url, key["client_email"], key["private_key"])
    client = settings.oauth
    secrets = (client.client_secret.get_secret_value(), client.refresh_token.get_secret_value())
    return scope_of("google", "app", "token", settings.token_url, client.client_id, *secrets)


def project_scope(settings: GoogleSettings) -> str:
    """Name the Cloud project whose quota requests use: the service account's, or that of the client (its number)."""
    if settings.oauth is None:
        key = settings.key_parts
        return scope_of("google", "app", key["project_id"] or key["client_email"])
    return scope_of("google", "app", settings.oauth.client_id.partition("-")[0])


def token_request(settings: GoogleSettings, now_ms: int) -> Request:
    """Ask for a token of the API's scope. The address is the settings' own, never one that a key file names."""
    if settings.oauth is None:
        key = settings.key_parts
        return assertion_request(
            settings.token_url,
            private_key_pem=key["private_key"],
            claims={"iss": key["client_email"], "scope": SCOPE, "aud": settings.token_url},
            now_ms=now_ms,
            timeout_ms=settings.timeout,
            key_id=key["private_key_id"],
            allow_private=settings.allow_private,
        )
    return refresh_token_request(
        settings.token_url,
        client_id=settings.oauth.client_id,
        client_secret=settings.oauth.client_secret.get_secret_value(),
        refresh_token=settings.oauth.refresh_token.get_secret_value(),
        timeout_ms=settings.timeout,
        allow_private=settings.allow_private,
    )
