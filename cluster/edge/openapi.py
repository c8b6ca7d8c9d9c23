"""/openapi.json and /docs, both made from the route table."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cluster.edge.routes import Route

_PARAMETER = re.compile(r"\{([a-z_]+)(?::[^}]*)?\}")
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
        "detail": {"type": "string"}, "code": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object", "properties": {
            "path": {"type": "string"}, "message": {"type": "string"}}}},
    },
}  # fmt: skip
_SDK_ERROR = {
    "type": "object",
    "properties": {"success": {"const": False}, "code": {"type": "string"}, "message": {"type": "string"}},
}


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """Give the OpenAPI 3.1 document of these routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = _PARAMETER.sub(r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Usher", "version": _version(), "description": "Real-time audiences."},
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM, "SdkError": _SDK_ERROR},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key: usher keys create"},
                "writeKey": {"type": "http", "scheme": "basic", "description": "A source's write key as user name"},
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "tags": [route.tag],
        "operationId": operation_id(route),
        "responses": {"200": {"description": f"`{route.answer}`" if route.answer else "OK"}, "default": _error(route)},
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PARAMETER.findall(route.path)
    ]
    parameters += [
        {"name": name, "in": "query", "description": meaning, "schema": {"type": "string"}}
        for name, meaning in route.query.items()
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body:
        operation["requestBody"] = {"description": route.body, "content": {"application/json": {}}}
    if route.role is not None:
        operation["security"] = [{"key": []}]
        operation["description"] = f"Takes a key with the role {route.role}."
    elif route.tag == "events":
        operation["security"] = [{"writeKey": []}, {"key": []}]
    return operation


def _error(route: Route) -> dict[str, Any]:
    if route.errors == "sdk":
        content: dict[str, Any] = {"application/json": {"schema": {"$ref": "#/components/schemas/SdkError"}}}
    else:
        content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": "An error", "content": content}


def operation_id(route: Route) -> str:
    """Name an operation by its method and path."""
    words = re.findall(r"[A-Za-z0-9]+", _PARAMETER.sub(r"by_\1", route.path))
    return "_".join([route.method.lower(), *words])


def page(routes: Iterable[Route]) -> str:
    """Give /docs: the table as a page that loads nothing from elsewhere."""
    rows = "".join(_row(route) for route in routes)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Usher API</title><style>'
        "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}"
        "table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ddd;padding:.4rem;text-align:left;"
        "vertical-align:top}code{font-size:.92em}</style></head><body><h1>Usher API</h1>"
        '<p>As a document: <a href="/openapi.json">/openapi.json</a>. Keys go into the header '
        "<code>Authorization: Bearer KEY</code>. Errors are problem documents (RFC 9457); on the paths of the SDKs "
        "they have <code>code</code> and <code>message</code>.</p>"
        f"<table><tr><th>Method and path</th><th>Role</th><th>Does</th></tr>{rows}</table></body></html>"
    )


def _row(route: Route) -> str:
    more = [f"<code>?{html.escape(name)}</code> {html.escape(meaning)}" for name, meaning in route.query.items()]
    if route.body:
        more.append(f"Body: <code>{html.escape(route.body)}</code>")
    if route.answer:
        more.append(f"Answer: <code>{html.escape(route.answer)}</code>")
    does = "<br>".join([html.escape(route.summary), *more])
    role = "write key" if route.tag == "events" else route.role or "none"
    path = html.escape(_PARAMETER.sub(r"{\1}", route.path))
    return f"<tr><td><code>{route.method} {path}</code></td><td>{html.escape(role)}</td><td>{does}</td></tr>"


def _version() -> str:
    try:
        return version("usher-audiences")
    except PackageNotFoundError:
        return "0"
