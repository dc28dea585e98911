"""The OpenAPI 3.1 document, made from the very routes that serve and the very structs that validate.

Pure but for the aiohttp handler at its end. Invariant: a status or a field that is not here is not answered, unless the
server has a bug (500, which is therefore never documented) or never learned which route was meant (404 and 405 of unknown
paths and methods, 400 of what is no HTTP).
"""

import asyncio
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec

from command.base.rights import RIGHTS
from command.base.schema import Id, Value
from command.edge.api import GATEWAY, JSON_TYPE, PREFIX, PUBLIC, SAFE_METHODS, Call, Route


class Problem(Value, frozen=True, kw_only=True):
    """Every error: a stable code, a hint for a person, and details where they help."""

    code: str
    hint: str
    details: dict[str, Any] = {}


KEY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "1 to 128 printable characters, new for each command; a repeat of the same command gets the same answer.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"},
}
SEEN_HEADER = {
    "name": "Fenghuo-Seen",
    "in": "header",
    "required": False,
    "description": "The log position that the author's screen showed; it is kept with the decision.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 999999999999999999},
}
RETRY_AFTER = {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 0}}}


def statuses(route: Route) -> list[int]:
    """The statuses a route can answer, its own success first.

    400: an upgrade that is none, a body that is not what its headers say. 401, 403: no session, no right, or a foreign
    Origin. 404: nothing of that id, or nothing that the caller may know of. 408, 413, 415: a body too slow, too large, of
    another type. 409: stale, out of order, or a key used for something else. 422: what was sent doesn't fit. 503: the
    database or another part can't work now.
    """
    found = set(route.errors)
    takes_body = bool(route.raw) or route.request is not None
    if route.status == 101:
        found.add(400)
    if route.right not in (PUBLIC, GATEWAY):
        found |= {401, 403, 503}
    if route.method not in SAFE_METHODS:
        found.add(403)
    if route.fields:
        found |= {404, 422}
    if takes_body or route.query is not None or route.keyed:
        found.add(422)
    if takes_body:
        found.add(400)
        found |= {413} if route.right == GATEWAY else {408, 413, 415}
    if route.command or route.keyed:
        found.add(409)
    return [route.status, *sorted(found - {route.status})]


def address(route: Route) -> str:
    """The path as it is served."""
    return route.path[1:] if route.path.startswith("//") else PREFIX + route.path


def document(routes: Iterable[Route], version: str) -> dict[str, Any]:
    """The whole document as plain data."""
    routes = list(routes)
    kinds: list[Any] = [Problem]
    for route in routes:
        kinds += [kind for kind in (route.request, route.response, route.query) if _is_struct(kind)]
    unique = list(dict.fromkeys(kinds))
    schemas, components = msgspec.json.schema_components(unique, ref_template="#/components/schemas/{name}")
    known = dict(zip(unique, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(address(route), {})[route.method.lower()] = _operation(route, known, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Fenghuo", "version": version, "description": "Emergency command and conferencing."},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "session": {"type": "apiKey", "in": "cookie", "name": "fenghuo"},
                "token": {"type": "http", "scheme": "bearer"},
            },
        },
    }


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _operation(route: Route, known: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _path_schema(route, name, components)}
        for name in route.fields
    ]
    if route.query is not None:
        parameters += _query_parameters(route.query, components)
    if route.command or route.keyed:
        parameters.append(KEY_HEADER)
    if route.command:
        parameters.append(SEEN_HEADER)
    name = route.path.strip("/").replace("/", "_").replace("{", "").replace("}", "")
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{name}",
        "summary": route.summary,
        "tags": [route.tag or route.path.strip("/").split("/")[0]],
        "parameters": parameters,
        "responses": {str(status): _response(route, status, known) for status in statuses(route)},
        "x-right": route.right,
    }
    if route.right not in (PUBLIC, GATEWAY):
        operation["security"] = [{"session": []}, {"token": []}]
        operation["x-roles"] = {role: relation.name.lower() for role, relation in RIGHTS.get(route.right, {}).items()}
    body = _request_body(route, known, components)
    if body is not None:
        operation["requestBody"] = body
    return operation


def _request_body(route: Route, known: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any] | None:
    if route.raw:
        return {"required": True, "content": {kind: {"schema": {}} for kind in route.raw}}
    if route.request is None:
        return None
    schema = _without(route.request, route.fields, known, components)
    left = components[route.request.__name__]["properties"].keys() - set(route.fields)
    if not left:
        return None
    required = bool(set(components[route.request.__name__].get("required", ())) - set(route.fields))
    return {"required": required, "content": {JSON_TYPE: {"schema": schema}}}


def _response(route: Route, status: int, known: dict[Any, Any]) -> dict[str, Any]:
    description = HTTPStatus(status).phrase
    if status in (101, 204):
        return {"description": description}
    if status != route.status:
        found: dict[str, Any] = {
            "description": description,
            "content": {JSON_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        return {**found, "headers": RETRY_AFTER} if status in (429, 503) else found
    if not route.produces:
        return {"description": description}
    schema = known.get(route.response, {}) if _is_struct(route.response) else {}
    return {"description": description, "content": {route.produces: {"schema": schema}}}


def _path_schema(route: Route, name: str, components: dict[str, Any]) -> dict[str, Any]:
    if _is_struct(route.request):
        found = _properties(route.request, components).get(name)
        if found is not None:
            return {key: value for key, value in _flat(found).items() if key != "default"}
    return msgspec.json.schema(route.params.get(name, Id))


def _properties(kind: Any, components: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = components[kind.__name__]["properties"]
    return found


def _query_parameters(kind: Any, components: dict[str, Any]) -> list[dict[str, Any]]:
    shape = components[kind.__name__]
    required = set(shape.get("required", []))
    return [
        {"name": name, "in": "query", "required": name in required, "schema": _flat(schema)}
        for name, schema in shape["properties"].items()
    ]


def _flat(schema: dict[str, Any]) -> dict[str, Any]:
    """A value of a path or a query has no null: leave it out instead."""
    if "anyOf" in schema:
        left = [one for one in schema["anyOf"] if one.get("type") != "null"]
        return left[0] if len(left) == 1 else {"anyOf": left}
    return {key: value for key, value in schema.items() if key != "default" or value is not None}


def _without(kind: Any, fields: list[str], known: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    """The schema of a body whose `fields` come from the path."""
    if not fields:
        found: dict[str, Any] = known[kind]
        return found
    whole = components[kind.__name__]
    return {
        **whole,
        "title": f"{kind.__name__} without {', '.join(fields)}",
        "properties": {name: schema for name, schema in whole["properties"].items() if name not in fields},
        "required": [name for name in whole.get("required", []) if name not in fields],
    }


def route_of(routes: Iterable[Route], version: str) -> Route:
    """The route that serves the document of `routes` (and of itself)."""
    every = list(routes)

    served: dict[str, Any] = {}

    async def handler(call: Call) -> Any:
        if not served:  # made when it is first asked for: it takes as long as all else that a node does when it starts
            served.update(await asyncio.to_thread(document, [*every, route], version))
        return served

    route = Route(
        method="GET", path="/openapi.json", right=PUBLIC, summary="This document", response=dict, handler=handler
    )
    return route
