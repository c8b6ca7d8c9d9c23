from __future__ import annotations

from destinations.requests import Request, Response, shown_url


def test_repr_shows_no_url_header_or_body() -> None:
    request = Request("POST", "https://h/?token=t0ps3cret", {"authorization": "t0ps3cret"}, b"t0ps3cret", 1)
    response = Response(200, {"set-cookie": "t0ps3cret"}, b"t0ps3cret", 0)

    assert "t0ps3cret" not in repr(request) + repr(response)


def test_a_shown_url_has_neither_user_nor_query() -> None:
    assert shown_url("https://u:p@example.com:8443/a/b?token=x#y") == "https://example.com:8443/a/b"
    assert shown_url("https://[::1]/a?x") == "https://[::1]/a"
    assert shown_url("https://[") == "<unreadable URL>"
