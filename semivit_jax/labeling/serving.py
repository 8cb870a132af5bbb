"""Serve the page on this machine alone, at an address that stays the same from one start to the next where it can."""

import hashlib
import os
import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

HOST = "127.0.0.1"
_GOODBYE_SECONDS = 1  # for answers that are on their way


def token_of(labels: Path, cache: Path) -> str:
    """The token of a table of labels, made up at the first start; a page that is open outlives the server so.

    It is in a file of the user's cache that nobody else may read.
    """
    file = cache / f"{hashlib.sha256(os.fsencode(os.path.realpath(labels))).hexdigest()[:16]}.token"
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(opened, "w") as written:
            written.write(secrets.token_urlsafe(24))
    return file.read_text()


def listening(port: int) -> socket.socket:
    """A socket on this machine at a port, or at any that is free where that is taken."""
    for wanted in (port, 0):
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind((HOST, wanted))
        except OSError:
            opened.close()
            if not wanted:
                raise
            continue
        return opened
    raise AssertionError("any free port is the last one tried")


def serve(application: ASGIApp, opened: socket.socket, *, started: Callable[[], None]) -> None:
    """Answers until the process is told to end.

    Args:
      application: to serve.
      opened: of `listening`.
      started: called as soon as pages are answered.
    """
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=_GOODBYE_SECONDS,
    )
    opened.listen()  # so that who comes before the loop runs waits for it
    started()
    uvicorn.Server(config).run(sockets=[opened])
