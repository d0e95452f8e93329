"""The page is for this machine, and reaches nothing of it."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from disca.cli import main
from disca.cli.demo import Demo, studio
from disca.demo.guard import LARGEST
from disca.demo.loopback import HOST, free_port
from disca.demo.serve import serve


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    page, address = serve(studio(Demo(output=tmp_path_factory.mktemp("out"))), port=0)
    yield address
    page.close(verbose=False)


def ask(address: str, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> tuple[int, str, str]:
    """Status, words and policy of an answer."""
    connection = HTTPConnection(urlsplit(address).netloc, timeout=60)
    connection.request(method, path, body, {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    words = answer.read().decode(errors="replace")
    connection.close()
    return answer.status, words, answer.headers.get("content-security-policy", "")


def test_the_page_is_there_and_may_load_nothing_from_elsewhere(address: str) -> None:
    status, page, policy = ask(address, "/")
    assert status == 200 and "side by side" in page
    assert policy.startswith("default-src 'self'") and "http" not in policy
    assert "fonts.googleapis.com/css" not in page
    assert '"analytics_enabled":true' not in page.replace(" ", "")


def test_it_is_on_the_loopback_only(address: str) -> None:
    assert urlsplit(address).hostname == HOST
    with socket.socket() as probe:
        probe.settimeout(2)
        port = urlsplit(address).port
        with pytest.raises(OSError):
            probe.connect((_own_address(), port))


def _own_address() -> str:
    """Another address of this machine."""
    return "127.0.0.2"


@pytest.mark.parametrize("host", ["example.org", "192.168.0.1:7860"])
def test_a_page_of_another_name_is_refused(address: str, host: str) -> None:
    assert ask(address, "/", Host=host)[0] == 400


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "pyproject.toml", str(Path(__file__).resolve()), "../../etc/passwd", "~/.profile"]
)
@pytest.mark.parametrize("route", ["/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/", "/assets/"])
def test_no_path_reaches_the_file_system(address: str, route: str, path: str) -> None:
    for written in (path, quote(path, safe="")):
        status, words, _ = ask(address, route + written)
        assert status >= 400 and "root:" not in words and "[project]" not in words and "_own_address" not in words


def test_files_and_large_requests_are_refused(address: str) -> None:
    assert ask(address, "/gradio_api/upload", "POST", b"x")[0] == 403
    assert ask(address, "/gradio_api/queue/join", "POST", b"{" + b" " * LARGEST)[0] == 413
    assert ask(address, "/")[0] == 200


def test_nobody_but_the_page_is_offered_its_functions(address: str) -> None:
    status, words, _ = ask(address, "/gradio_api/info")
    assert status >= 400 or not re.search(r'"/\w', words)


def test_a_port_in_use_is_said_before_any_work(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["demo", "--port", port, "--output", str(tmp_path / "new")]) == 1
    assert f"Port {port} is in use" in capsys.readouterr().err and not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--port", "70000"], "65535"),
        (["labb"], "Did you mean 'lab'"),
        (["--bundle", "nowhere"], "is no bundle"),
        (["--records", "missing.jsonl"], "missing.jsonl"),
        (["--constants", "missing.json"], "missing.json"),
        (["--fps", "0"], "--fps"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(
    args: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["demo", *args]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_a_port_is_found() -> None:
    assert free_port(0) > 0 and free_port(None) >= 7860
