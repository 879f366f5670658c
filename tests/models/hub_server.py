"""A hub on loopback that speaks as much of the hub's protocol as its own client asks for, and counts what it sends."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """Models by name, each a dict of files; `sent` counts the bytes that went out, `cut` ends a file early, once."""

    def __init__(self, models: dict[str, dict[str, bytes]]) -> None:
        self.models = models
        self.sent: dict[str, int] = {}
        self.cut: dict[str, int] = {}
        self.address = ""


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve a hub for the length of a ``with`` block."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Serving", (Handler,), {"hub": hub}))
    Thread(target=server.serve_forever, daemon=True).start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def ask(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub's client ask this hub for the length of a test."""
    template = f"{hub.address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", hub.address, raising=False)


class Handler(BaseHTTPRequestHandler):
    """Answers for a model's list of files, and for a file, from a byte on where that is asked for."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Stay silent."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/api/models/"):
            self._info("/".join(path.removeprefix("/api/models/").split("/")[:2]))
            return
        owner, model, _, _, *rest = path.removeprefix("/").split("/")
        file, files = "/".join(rest), self.hub.models.get(f"{owner}/{model}", {})
        if file in files:
            self._file(file, files[file], body=body)
        else:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})

    def _info(self, name: str) -> None:
        if name not in self.hub.models:
            self._send(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})
            return
        files = [{"rfilename": file, "size": len(data)} for file, data in self.hub.models[name].items()]
        content = {"id": name, "modelId": name, "sha": COMMIT, "siblings": files, "private": False, "tags": []}
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _file(self, file: str, data: bytes, *, body: bool) -> None:
        start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0]) if "Range" in self.headers else 0
        part = data[start:]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(data).hexdigest()}"', "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        most = self.hub.cut.pop(file, len(part)) if body else 0
        self._send(206 if start else 200, part[:most], {**headers, "Content-Length": str(len(part))})
        self.hub.sent[file] = self.hub.sent.get(file, 0) + most
        if body and most < len(part):
            self.wfile.flush()
            self.close_connection = True

    def _send(self, code: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
