from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from destinations.signing import sign, signing_key

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_published_vector_is_reproduced() -> None:
    signature = sign(
        signing_key(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )

    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(key=st.binary(min_size=24, max_size=64), body=st.binary(max_size=200).filter(lambda b: _is_text(b)))
def test_the_reference_library_signs_the_same(key: bytes, body: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    when = datetime.fromtimestamp(1_764_518_400, UTC)

    assert sign(signing_key(secret), "msg_1", 1_764_518_400, body) == Webhook(secret).sign("msg_1", when, body.decode())


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_any_other_text_is_its_own_key() -> None:
    assert signing_key("grün") == "grün".encode()


def test_missing_padding_is_forgiven() -> None:
    assert signing_key("whsec_AAE") == b"\x00\x01"


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64!"])
def test_a_useless_secret_is_refused_without_being_repeated(secret: str) -> None:
    with pytest.raises(ValueError, match="secret") as caught:
        signing_key(secret)

    assert "not base64!" not in str(caught.value)
