"""Serving the page: on this machine only, without a word to anyone else."""

from __future__ import annotations

from typing import Any

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from disca.demo.guard import Guard
from disca.demo.looks import looks
from disca.demo.loopback import HOST, free_port
from disca.demo.page import build
from disca.demo.studio import Studio


def serve(studio: Studio, *, port: int | None = None, browser: bool = False) -> tuple[Any, str]:
    """Serve a page in the background.

    Args:
        port: see :func:`disca.demo.loopback.free_port`.
        browser: open it in a browser, too.

    Returns:
        What has a ``close()``, and the page's address.

    Raises:
        OSError: the port is in use.
    """
    port = free_port(port)
    page = build(studio)
    page.queue(api_open=False)
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"]), Middleware(Guard)]
    page.launch(
        server_name=HOST,
        server_port=port,
        share=False,
        inbrowser=browser,
        quiet=True,
        prevent_thread_lock=True,
        ssr_mode=False,
        enable_monitoring=False,
        max_file_size=1,
        allowed_paths=[],
        app_kwargs={"middleware": middleware},
        **looks(),
    )
    return page, f"http://{HOST}:{port}/"
