"""TensorFlow Serving's REST API (v1), as an ASGI application; with `/healthz`, `/metrics` and a page at `/`.

Source: tensorflow_serving/g3doc/api_rest.md and model_servers/http_rest_api_util.cc, whose patterns these are.
"""

import asyncio
import contextlib
import dataclasses
import functools
import json
import logging
import re
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from google.protobuf.json_format import MessageToDict
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from kbert.server import examples, json_tensors
from kbert.server.service import Asked, Service
from kbert.server.status import Status, invalid

_MODEL = r"/v1/models/([^/:]+)(?:(?:/versions/(\d+))|(?:/labels/([^/:]+)))?"
ASK = re.compile(rf"(?i){_MODEL}:(classify|regress|predict)")
LOOK = re.compile(rf"(?i){_MODEL}(?:/(metadata))?")
LARGE = 1 << 20  # bytes of a document; one such is converted at a time
log = logging.getLogger("kbert.server")


def application(service: Service) -> Starlette:
    """Return the application."""

    async def v1(request: Request) -> Response:
        path = request.scope.get("raw_path", request.url.path.encode()).decode("latin-1").partition("?")[0]
        ask, look = ASK.fullmatch(path), LOOK.fullmatch(path)
        if request.method == "POST" and ask:
            *model, method = ask.groups()
            return await _told(service, method.lower(), _post(service, request, model, method.lower()))
        if request.method in ("GET", "HEAD") and look:
            *model, of = look.groups()
            return await _told(service, "metadata" if of else "status", _get(service, model, bool(of)))
        wrong = invalid(f"Malformed request: {request.method} {path}")
        if path.rstrip("/").lower() == "/v1/models":
            wrong = invalid("Missing model name in request.")
        return _error(wrong)

    async def health(_: Request) -> Response:
        found = service.versions.available()
        return Response(f"version {found[-1]}\n" if found else "no version is loaded\n", 200 if found else 503)

    async def metrics(_: Request) -> Response:
        return Response(service.metrics.page(), media_type="text/plain; version=0.0.4")

    async def page(_: Request) -> Response:
        name = json.dumps(service.versions.name).replace("<", "\\u003c")
        return HTMLResponse(PAGE.read_text(encoding="utf-8").replace('"MODEL"', name))

    routes = [
        Route("/", page),
        Route("/healthz", health),
        Route("/metrics", metrics),
        Route("/monitoring/prometheus/metrics", metrics),  # TensorFlow Serving's
        Route("/v1/{rest:path}", v1, methods=["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
    ]
    return Starlette(routes=routes)


PAGE = Path(__file__).with_name("page.html")


def _asked(name: str, version: str | None, label: str | None) -> Asked:
    if version is not None and (len(version) > 19 or int(version) >= 2**63):
        raise invalid(f"Failed to convert version: {version} to numeric.")
    return Asked(unquote(name), None if version is None else int(version), None if label is None else unquote(label))


async def _told(service: Service, api: str, answer: Awaitable[str]) -> Response:
    try:
        return Response(await service.counted(api, answer), media_type="application/json")
    except Status as error:
        return _error(error)
    except ClientDisconnect:
        return _error(Status("CANCELLED", "The client closed the connection"))
    except Exception as error:
        log.exception("%s", api)
        return _error(Status("INTERNAL", f"{type(error).__name__} in the server; its log has more"))


def _error(error: Status) -> Response:
    text = json_tensors.dumped({"error": str(error)}).encode("utf-8", "replace")
    headers = {"Retry-After": "1"} if error.http == 429 else {}
    return Response(text, error.http, headers, "application/json")


async def _post(service: Service, request: Request, path: list[Any], method: str) -> str:
    asked = _asked(*path)
    with service.held() as more:
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced[:20]) > service.limits.body:
            more(int(announced[:20]))  # refused before it is read
        parts = []
        try:
            async with asyncio.timeout(service.limits.seconds):
                async for part in request.stream():
                    more(len(part))
                    parts.append(part)
        except TimeoutError:
            raise Status("DEADLINE_EXCEEDED", "The request has not arrived in time (--timeout)") from None
        body = b"".join(parts)
        if request.headers.get("content-encoding", "").lower() == "gzip":
            body = _unpacked(body, service.limits.body)
            more(len(body))
        size = len(body)
        del parts
        async with contextlib.AsyncExitStack() as alone:
            if size > LARGE:
                await alone.enter_async_context(service.large)
            document = await service.apart(size, functools.partial(json_tensors.parsed, body))
            alone.callback(document.clear)  # before the next one is parsed
            del body
            asked = dataclasses.replace(asked, signature=json_tensors.signature_name(document))
            calls = _calls(document, method, service.limits.rows)
            return await service.run(asked, *calls, size, alone.aclose)


def _unpacked(body: bytes, most: int) -> bytes:
    """Return what a gzip body holds, which may be a thousand times as much: no more than the limit is unpacked."""
    unpack = zlib.decompressobj(wbits=31)
    try:
        found = unpack.decompress(body, most + 1)
    except zlib.error:
        raise invalid("The body is not gzip, as Content-Encoding says") from None
    if len(found) <= most and not unpack.eof:
        raise invalid("The gzip body is cut off")
    return found


def _calls(document: dict[str, Any], method: str, max_rows: int) -> tuple[Callable[..., Any], Callable[..., str]]:
    """Return the two functions that `Service.run` takes: how to make the inputs, and the answer."""
    if method == "predict":
        by_row = "instances" in document
        return (
            lambda signature: json_tensors.inputs_of(document, signature.inputs, max_rows)[0],
            lambda model, outputs, rows: json_tensors.predictions(outputs, by_row),
        )

    def arrays(signature: Any) -> dict[str, Any]:
        examples.check(signature, method)
        return {examples.INPUTS: examples.serialized(document, method, max_rows)}

    return arrays, lambda model, outputs, rows: examples.results(method, outputs, rows)


async def _get(service: Service, path: list[Any], metadata: bool) -> str:
    asked = _asked(*path)
    if not metadata:
        found = service.versions.statuses(asked.name, asked.version, asked.label)
        return json_tensors.dumped({"model_version_status": [_status(*each) for each in found]})
    with service.model(asked) as model:
        definitions = {
            name: MessageToDict(each, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
            for name, each in sorted(model.definitions.items())
        }
        spec = {"name": asked.name, "signature_name": "", "version": str(model.version)}
        return json_tensors.dumped({"model_spec": spec, "metadata": {"signature_def": {"signature_def": definitions}}})


def _status(version: int, state: str, error: str) -> dict[str, Any]:
    status = {"error_code": "UNKNOWN" if error else "OK", "error_message": error}
    return {"version": str(version), "state": state, "status": status}
