"""Serve pages of `semivit label` for tests: in a thread of this process, or in a process that can be killed."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn

from semivit_jax.labeling import serving
from semivit_jax.labeling.guesses import Guesses
from semivit_jax.labeling.pictures import Pictures
from semivit_jax.labeling.server import Site, app
from semivit_jax.labeling.similar import Similar
from semivit_jax.labeling.store import Labels

TOKEN = "token-of-the-tests"


def site(
    root: Path,
    names: Sequence[str],
    labels: Path,
    *,
    classes: Sequence[str] = (),
    order: Sequence[int] = (),
    guesses: Guesses | None = None,
    similar: Similar | None = None,
) -> Site:
    """What a page shows of some images of a folder."""
    held = Labels(labels, root, names, who="a tester", classes=classes)
    pictures = Pictures(root, names, cache=labels.parent / "cache", links=False)
    return Site("photos", "listing", held, pictures, order, guesses or Guesses("", ()), similar)


class PromptServer(uvicorn.Server):
    """Looks every few milliseconds whether it shall end; uvicorn does ten times a second, in every test."""

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            await asyncio.sleep(0.005)


@contextlib.contextmanager
def serving_site(shown: Site) -> Iterator[str]:
    """Serves a page from a thread; gives its address."""
    opened = serving.listening(0)
    config = uvicorn.Config(app(shown, token=TOKEN), log_config=None, lifespan="off", ws="none")
    server = PromptServer(config)
    opened.listen()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{opened.getsockname()[1]}/{TOKEN}/"
    finally:
        server.should_exit = True
        thread.join()
        opened.close()
        shown.labels.close()


class Command:
    """A `semivit label` in a process of its own.

    Attributes:
      address: of its page.
    """

    def __init__(self, *flags: str):
        command = [sys.executable, "-m", "semivit_jax.main", "label", *flags]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                         env=os.environ | {"PYTHONUNBUFFERED": "1"})  # fmt: skip
        assert self._process.stdout is not None
        told = []
        for line in self._process.stdout:
            told.append(line)
            if found := re.search(r"http://127\.0\.0\.1:\d+/\S+/", line):
                self.address = found[0]
                return
        self.kill()
        raise AssertionError("".join(told))

    def kill(self) -> None:
        """Ends it, where it still runs, without a chance to do anything more."""
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


def asked(address: str, path: str = "", *, method: str = "GET", body=None, **headers: str) -> tuple[int, dict, bytes]:
    """Status, headers and content of an answer; the path goes out as it is, behind that of the address."""
    found = urllib.parse.urlsplit(address)
    connection = http.client.HTTPConnection(found.netloc, timeout=30)
    content = None if body is None else json.dumps(body).encode()
    if content is not None:
        headers = {"Content-Type": "application/json", **headers}
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path if path.startswith("/") else found.path + path, body=content, headers=given)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, dict(answer.getheaders()), content


def waited_for(condition, seconds: float = 20.0):
    """The first true value of a condition."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found
