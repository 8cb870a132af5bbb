"""A small Hugging Face hub on 127.0.0.1: as much of its protocol as downloading a repository takes."""

import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping

COMMIT = "0123456789abcdef0123456789abcdef01234567"

Repositories = Mapping[str, Mapping[str, bytes]]  # "org/name" -> file name -> content


@contextlib.contextmanager
def serve(repositories: Repositories) -> Iterator[tuple[str, list[str]]]:
    """Serves them until the block ends; yields (endpoint, the log of requests such as "GET /path")."""
    log: list[str] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(repositories, log))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", log
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(repositories: Repositories, log: list[str]) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer()

        def do_HEAD(self):
            self._answer()

        def log_message(self, format, *args):
            pass

        def _answer(self) -> None:
            log.append(f"{self.command} {self.path}")
            parts = self.path.partition("?")[0].strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                self._describe("/".join(parts[2:4]), parts[4:])
            else:
                self._file("/".join(parts[:2]), parts[-1])

        def _describe(self, repository: str, rest: list[str]) -> None:
            """/api/models/ORG/NAME[/revision/REVISION], and its /tree/REVISION: the list of files."""
            if repository not in repositories:
                self._send(404, b"Repository not found", {"X-Error-Code": "RepoNotFound"})
                return
            files = repositories[repository]
            if rest[:1] == ["tree"]:
                found = [{"type": "file", "path": n, "size": len(c), "oid": _oid(c)} for n, c in files.items()]
            else:
                siblings = [{"rfilename": name} for name in files]
                found = {"id": repository, "sha": COMMIT, "siblings": siblings}
            self._send(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

        def _file(self, repository: str, name: str) -> None:
            """/ORG/NAME/resolve/REVISION/FILE."""
            content = repositories.get(repository, {}).get(name)
            if content is None:
                self._send(404, b"Entry not found", {"X-Error-Code": "EntryNotFound"})
            else:
                self._send(200, content, {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": COMMIT})

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    return Handler


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
