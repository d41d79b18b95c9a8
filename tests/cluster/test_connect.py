"""Wrong addresses and other servers are refused in one line, soon."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from histoboost import cluster as module
from histoboost.errors import HistoboostError


def refused(address: str) -> str:
    with pytest.raises(HistoboostError) as caught, module.connect(address):
        pass
    line = str(caught.value)
    assert line.startswith(f"--scheduler {address}: ")
    assert "\n" not in line
    return line


@pytest.fixture
def silent() -> Iterator[str]:
    """A listener that accepts and stays silent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def talking() -> Iterator[str]:
    """A listener that greets like SMTP and FTP servers, with bytes that mean 3 EiB as a length."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            while True:
                try:
                    with server.accept()[0] as connection:
                        connection.sendall(b"220 mail.example.org ready\r\n")
                        connection.recv(1)
                except OSError:
                    return

        threading.Thread(target=greet, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def web() -> Iterator[str]:
    """A web server, such as the dashboard."""
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"tcp://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("listener", ["silent", "talking", "web"])
def test_other_servers_are_refused_in_one_line(request, monkeypatch, listener):
    monkeypatch.setattr(module, "CONNECT_TIMEOUT_S", 0.5)
    assert "no Dask scheduler answers there" in refused(request.getfixturevalue(listener))


@pytest.mark.parametrize(
    "address", ["ucx://127.0.0.1:1", "http://127.0.0.1:8787", "tcp://", "tcp://host", "a:b:c", ""]
)
def test_an_invalid_address_is_refused(address: str) -> None:
    assert "give tcp://HOST:PORT" in refused(address)


def test_tls_without_certificates_is_refused() -> None:
    assert "no certificates" in refused("tls://127.0.0.1:8786")


def test_a_scheduler_without_workers_is_refused(cluster, monkeypatch) -> None:
    monkeypatch.setattr(module, "WORKER_TIMEOUT_S", 0.2)
    assert "no workers; start one" in refused(cluster.address)


def test_a_worker_without_histoboost_is_named(cluster, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Lacking:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] == 'histoboost':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Lacking())\n"
    )
    cluster.start_worker("bare", PYTHONPATH=str(tmp_path))
    cluster.wait_for_workers(1)
    line = refused(cluster.address)
    assert "histoboost is not installed on tcp://127.0.0.1:" in line
    assert "the scheduler" not in line
