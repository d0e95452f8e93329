"""What stands before the page: it keeps the browser from fetching anything elsewhere, and large requests out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LARGEST = 256 * 1024
"""Bytes of a request; a form takes a few thousand."""
HERE = "'self' data: blob: 'unsafe-inline' 'unsafe-eval'"
POLICY = f"default-src {HERE}; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
"""The page consists of what this server sends, and the browser is told to load nothing else."""


class TooLarge(Exception):
    """A request without a length turned out too large."""


class Guard:
    """An ASGI middleware."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if (refused := refusal(scope)) is not None:
            await _refuse(send, *refused)
            return
        await self._app(scope, _counted(receive), _with_policy(send))


def refusal(scope: Scope) -> tuple[int, str] | None:
    """Why a request is not taken: status and words."""
    if scope["path"].rstrip("/").endswith("/upload"):
        return 403, "This page takes no files."
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if not length.isdigit() or int(length) > LARGEST:
        return 413, f"A request has at most {LARGEST} bytes."
    return None


def _counted(receive: Receive) -> Receive:
    """Lets so many bytes in."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > LARGEST:
            raise TooLarge(f"A request has at most {LARGEST} bytes.")
        return message

    return counted


def _with_policy(send: Send) -> Send:
    async def with_policy(message: Message) -> None:
        if message["type"] == "http.response.start":
            policy = (b"content-security-policy", POLICY.encode())
            message = {**message, "headers": [*message.get("headers", ()), policy]}
        await send(message)

    return with_policy


async def _refuse(send: Send, status: int, words: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": words.encode()})
