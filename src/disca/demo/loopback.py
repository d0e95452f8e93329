"""Where the page is served, and what keeps it to itself. Imported before anything that reads the environment."""

from __future__ import annotations

import os
import socket
from pathlib import Path

HOST = "127.0.0.1"
PORTS = range(7860, 7900)
"""Where a port is looked for when none is asked for."""


def free_port(wanted: int | None) -> int:
    """A port to serve on: the wanted one, the first free one of :data:`PORTS`, or for 0 any.

    Raises:
        ValueError: no port has this number.
        OSError: it is in use, or all are.
    """
    if wanted is not None and not 0 <= wanted <= 65535:
        raise ValueError(f"--port is a number from 0 to 65535, not {wanted}.")
    for port in PORTS if wanted is None else (wanted,):
        if found := _bound(port):
            return found
    if wanted is None:
        raise OSError(f"All ports from {PORTS[0]} to {PORTS[-1]} are in use. Give a free one with --port.")
    raise OSError(f"Port {wanted} is in use, or not yours to use. Give another with --port; --port 0 takes a free one.")


def _bound(port: int) -> int:
    """The port, or the one that the system chose for 0; 0 where it cannot be had."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return 0
        return int(probe.getsockname()[1])


def keep_quiet(output: Path) -> None:
    """Let libraries that are imported later ask nobody anything: no statistics, no look for newer versions, no hub; and
    let gradio keep its files in the output folder."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = str((output / ".gradio").resolve())
