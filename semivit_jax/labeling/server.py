"""Answer the page: what there is to label, pictures, and what is asked for. Images go by numbers, never by paths."""

import asyncio
import importlib.resources
import json
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from semivit_jax.data.images.decode import BadImage
from semivit_jax.data.sources.class_names import NONE_LABEL
from semivit_jax.labeling import asked as asking
from semivit_jax.labeling.access import Access
from semivit_jax.labeling.asked import Refused
from semivit_jax.labeling.guesses import Guesses
from semivit_jax.labeling.history import Entry
from semivit_jax.labeling.pictures import SIDES, Pictures
from semivit_jax.labeling.similar import Similar
from semivit_jax.labeling.store import Labels, News

_MOST_NAMES = 1000  # in one answer
_MOST_SIMILAR = 500
_MOST_BYTES = 32 << 20  # of what a page asks for: 100,000 images at once, and what was seen of them
_MOVED = "the folder has changed since this page was opened: load it again"
_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Site(NamedTuple):
    """What a page shows.

    Attributes:
      title: of the page: the folder.
      listing: tells the images and their order from others, since a page names them by number.
      labels: that it changes.
      pictures: of the images.
      order: places of the images in the order of the table of images to do; () for the order of their names.
      guesses: of a model.
      similar: features; None without an embedding.
    """

    title: str
    listing: str
    labels: Labels
    pictures: Pictures
    order: Sequence[int]
    guesses: Guesses
    similar: Similar | None


def app(site: Site, *, token: str) -> Access:
    """The application, behind its token."""
    answers = _Answers(site)
    routes = [
        Route("/", answers.page),
        Route("/page/{file}", answers.page_file),
        Route("/start", answers.start),
        Route("/names", answers.names),
        Route("/places", answers.places, methods=["POST"]),
        Route("/picture/{size}/{place:int}", answers.picture),
        Route("/similar/{place:int}", answers.similar),
        Route("/news", answers.news),
        Route("/act", answers.act, methods=["POST"]),
        Route("/{rest:path}", _nothing),
    ]
    return Access(Starlette(routes=routes), token)


class _Answers:
    """One function per address."""

    def __init__(self, site: Site):
        self._site = site
        self._boot = uuid.uuid4().hex  # a page that has heard of another one begins anew
        folder = importlib.resources.files("semivit_jax.labeling") / "page"
        self._files = {file.name: file.read_bytes() for file in folder.iterdir() if Path(file.name).suffix in _KINDS}
        self._gate = asyncio.Semaphore(os.cpu_count() or 1)  # pictures made at a time

    def page(self, request: Request) -> Response:
        return Response(self._files["index.html"], media_type="text/html; charset=utf-8")

    def page_file(self, request: Request) -> Response:
        name = request.path_params["file"]
        if name not in self._files:
            return _refused("there is no such file", 404)
        return Response(self._files[name], media_type=f"{_KINDS[Path(name).suffix]}; charset=utf-8")

    def start(self, request: Request) -> Response:
        """Everything that a page begins with; names and pictures follow as they are seen."""
        site = self._site
        version, labels = site.labels.snapshot()
        return _json(
            {
                "title": site.title,
                "listing": site.listing,
                "images": len(site.labels.names),
                "order": list(site.order),
                "labels": [[label, places] for label, places in labels.items()],
                "none": NONE_LABEL,
                "similar": site.similar is not None,
                "guessedBy": site.guesses.source,
                **self._news(site.labels.since(version), 0),
            }
        )

    def names(self, request: Request) -> Response:
        """Names of the images at some places."""
        if self._is_moved(request):
            return _refused(_MOVED, 409)
        names = self._site.labels.names
        try:
            places = [int(place) for place in request.query_params.get("places", "").split(",") if place]
            return _json([names[place] for place in places[:_MOST_NAMES] if place >= 0])
        except (ValueError, IndexError):
            return _refused("images are named by their places in the list", 400)

    async def places(self, request: Request) -> Response:
        """Places of images by their names, null for one that is not there: of a page that had other numbers."""
        body = await _body_of(request)
        return body if isinstance(body, Response) else await run_in_threadpool(self._places, body)

    def _places(self, body: bytes) -> Response:
        try:
            return _json([self._site.labels.place_of(name) for name in json.loads(body)])
        except (ValueError, TypeError, RecursionError):
            return _refused("no list of names", 400)

    def _is_moved(self, request: Request) -> bool:
        """Whether a page asks with the numbers of other images: those of this folder before it changed."""
        return request.query_params.get("listing", self._site.listing) != self._site.listing

    async def picture(self, request: Request) -> Response:
        size, place = request.path_params["size"], request.path_params["place"]
        if size not in SIDES or place >= len(self._site.labels.names):
            return _refused("there is no such picture", 404)
        if self._is_moved(request):
            return _refused(_MOVED, 409)
        async with self._gate:
            if await request.is_disconnected():  # scrolled past meanwhile
                return Response(status_code=204)
            return await run_in_threadpool(self._picture, place, size)

    def _picture(self, place: int, size: str) -> Response:
        try:
            picture = self._site.pictures.get(place, size)
        except BadImage as error:
            return _refused(str(error), 422)
        return Response(
            picture.content, media_type=picture.media_type, headers={"cache-control": "private, max-age=600"}
        )

    def similar(self, request: Request) -> Response:
        if self._site.similar is None:
            return _refused("similar images need --embedding=DIR, of semivit embed", 404)
        if self._is_moved(request):
            return _refused(_MOVED, 409)
        place = request.path_params["place"]
        return _json(self._site.similar.to(place, _MOST_SIMILAR))

    def news(self, request: Request) -> Response:
        """What has changed since a version, and the guesses that have come."""
        try:
            version, guesses = (int(request.query_params.get(key, "0")) for key in ("version", "guesses"))
        except ValueError:
            return _refused("a version is a number", 400)
        return _json(self._news(self._site.labels.since(max(0, version)), max(0, guesses)))

    async def act(self, request: Request) -> Response:
        """Does what a page asks for, a list of actions; the answers are in its order."""
        body = await _body_of(request)
        return body if isinstance(body, Response) else await run_in_threadpool(self._act, body)

    def _act(self, body: bytes) -> Response:
        labels = self._site.labels
        try:
            raw = json.loads(body)
            wanted = [asking.read(one, num_images=len(labels.names)) for one in raw["actions"]]
            version, guesses, listing = int(raw["version"]), int(raw["guesses"]), raw["listing"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:  # Refused is a ValueError
            return _refused(str(error) if isinstance(error, Refused) else "no list of actions", 400)
        if listing != self._site.listing:
            return _refused(_MOVED, 409)
        try:
            answers, news = labels.act(wanted, max(0, version))
        except OSError as error:
            return _refused(f"not saved: the journal cannot be written: {error}", 507)
        return _json({"answers": [a._asdict() for a in answers], **self._news(news, max(0, guesses))})

    def _news(self, news: News, guesses: int) -> dict[str, Any]:
        return {
            "boot": self._boot,
            "version": news.version,
            "changed": [[place, label] for place, label in news.labels.items()],
            "classes": news.classes,
            "undo": _entry(news.undo),
            "redo": _entry(news.redo),
            "problem": news.problem,
            "guesses": [list(guess) for guess in self._site.guesses.since(guesses)],
            "guessing": self._site.guesses.working,
        }


async def _body_of(request: Request) -> bytes | Response:
    """The JSON that a page sends; what is answered where it is none, or too much."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        return _refused("what a page says comes as application/json", 415)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            return _refused("too much at once", 413)
    return bytes(body)


def _entry(entry: Entry | None) -> dict[str, Any] | None:
    """What a page shows of an entry."""
    return None if entry is None else {"id": entry.id, "words": entry.words, "who": entry.who, "when": entry.when}


def _nothing(request: Request) -> Response:
    return _refused("there is nothing here", 404)


def _json(value: Any) -> Response:
    """ASCII, so that names that are no text come through."""
    return Response(json.dumps(value, separators=(",", ":")), media_type="application/json")


def _refused(why: str, status: int) -> Response:
    return Response(json.dumps({"problem": why}), status_code=status, media_type="application/json")
