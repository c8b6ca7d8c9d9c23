"""A service account's key file, made for the tests."""

from __future__ import annotations

import json
from functools import cache

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


@cache
def private_key() -> RSAPrivateKey:
    return generate_private_key(65537, 2048)


@cache
def key_file() -> str:
    pem = private_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return json.dumps({
        "type": "service_account", "project_id": "shop-1", "private_key_id": "k1", "private_key": pem,
        "client_email": "usher@shop-1.iam.gserviceaccount.com", "token_uri": "https://elsewhere.example/token",
    })  # fmt: skip
