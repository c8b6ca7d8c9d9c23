"""Token requests as the servers of OAuth 2 read them; the signature is checked by the key's other half."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from destinations.outcomes import Credentials, Retry, Token
from destinations.requests import NoResponse, Response
from destinations.tokens import assertion_request, judge_token_answer, refresh_token_request, rsa_key

NOW_MS = 1_795_428_000_000
URL = "https://oauth2.googleapis.com/token"


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


def pem(key: RSAPrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_an_assertion_is_a_signed_jwt_with_its_times(key: RSAPrivateKey) -> None:
    claims = {"iss": "a@b", "scope": "s", "aud": URL}
    request = assertion_request(
        URL, private_key_pem=pem(key), claims=claims, now_ms=NOW_MS, timeout_ms=1000, key_id="k"
    )

    form = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    header, payload, signature = form["assertion"].split(".")
    key.public_key().verify(unpadded(signature), f"{header}.{payload}".encode(), PKCS1v15(), SHA256())
    assert json.loads(unpadded(header)) == {"alg": "RS256", "typ": "JWT", "kid": "k"}
    assert json.loads(unpadded(payload)) == {**claims, "iat": NOW_MS // 1000, "exp": NOW_MS // 1000 + 3600}


def unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_a_form_may_be_the_servers_own(key: RSAPrivateKey) -> None:
    form = {"grant_type": "client_credentials", "client_assertion": "{assertion}"}
    request = assertion_request(URL, private_key_pem=pem(key), claims={}, now_ms=NOW_MS, timeout_ms=1, form=form)

    assert parse_qs(request.body.decode())["client_assertion"][0].count(".") == 2


def test_a_refresh_token_is_traded() -> None:
    request = refresh_token_request(URL, client_id="i", client_secret="s", refresh_token="r&=", timeout_ms=1000)

    assert parse_qs(request.body.decode()) == {
        "grant_type": ["refresh_token"], "client_id": ["i"], "client_secret": ["s"], "refresh_token": ["r&="],
    }  # fmt: skip
    assert "r&=" not in repr(request)


def test_a_key_that_is_none_is_refused_without_showing_it() -> None:
    with pytest.raises(ValueError, match="no unencrypted RSA key") as caught:
        rsa_key("-----BEGIN PRIVATE KEY-----\nt0ps3cret\n-----END PRIVATE KEY-----")
    assert "t0ps3cret" not in str(caught.value)


def answer(status: int, **body: object) -> Response:
    return Response(status, {}, json.dumps(body).encode(), NOW_MS)


def test_a_token_is_used_up_before_the_server_says() -> None:
    assert judge_token_answer(answer(200, access_token="t", expires_in=3600)) == Token("t", NOW_MS + 3_540_000)
    assert judge_token_answer(answer(200, access_token="t")) == Token("t", NOW_MS + 240_000)


@pytest.mark.parametrize(("status", "body", "kind"), [
    (400, {"error": "invalid_grant", "error_description": "t0ps3cret"}, Credentials),
    (401, {"error": "invalid_client"}, Credentials),
    (400, {"error": ["t0ps3cret"]}, Credentials),
    (400, {"error": "temporarily_unavailable"}, Retry),
    (404, {}, Credentials),
    (429, {}, Retry),
    (503, {}, Retry),
    (200, {}, Retry),
    (200, {"access_token": ["t"]}, Retry),
])  # fmt: skip
def test_failures_are_told_apart_and_show_nothing(status: int, body: dict[str, object], kind: type[object]) -> None:
    outcome = judge_token_answer(answer(status, **body))

    assert type(outcome) is kind
    assert "t0ps3cret" not in repr(outcome)


def test_no_answer_is_tried_again() -> None:
    assert isinstance(judge_token_answer(NoResponse("timeout", "late")), Retry)
