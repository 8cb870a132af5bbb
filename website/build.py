"""Build the site of docs/, strictly, and refuse a page that would load anything from elsewhere: `make docs`."""

import html.parser
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "site"

# Attributes from which a browser fetches when it shows a page. A link (<a href>) is fetched by whoever clicks it.
FETCHED = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src", "srcset"),
    "input": ("src",),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "track": ("src",),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
NOT_FETCHED = ("canonical", "next", "prev", "alternate")  # what a <link> may be for
ELSEWHERE = re.compile(r"(?:https?:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"(?:url\(|@import)\s*[\"']?\s*((?:https?:)?//[^\"')\s]+)", re.IGNORECASE)


def main() -> int:
    """Returns the exit code; prints what is fetched from elsewhere, a line each."""
    told_before = {"NO_MKDOCS_2_WARNING": "1"}  # of the theme's successor, at every build
    # Not with --quiet, which drops the warnings that --strict counts.
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    built = subprocess.run(command, cwd=ROOT, env=os.environ | told_before, capture_output=True, text=True)
    if built.returncode:
        print(built.stdout + built.stderr, file=sys.stderr)
        return built.returncode
    found = list(fetched_from_elsewhere(SITE))
    for file, address in found:
        print(f"{file.relative_to(SITE)} loads {address}: keep a copy below docs/assets/", file=sys.stderr)
    if not found:
        print(f"{SITE.relative_to(ROOT)}/index.html is built")
    return 1 if found else 0


def fetched_from_elsewhere(site: Path) -> Iterator[tuple[Path, str]]:
    """(file, address) of everything that pages and styles of a folder load over the network."""
    for file in sorted(site.rglob("*")):
        if file.suffix == ".html":
            page = _Page()
            page.feed(file.read_text())
            yield from ((file, address) for address in page.addresses)
        elif file.suffix in (".css", ".svg"):
            yield from ((file, address) for address in IN_STYLE.findall(file.read_text()))


class _Page(html.parser.HTMLParser):
    """Collects the addresses that a page fetches from another place than the site."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.addresses += IN_STYLE.findall(values.get("style") or "")
        if tag == "link" and (values.get("rel") or "") in NOT_FETCHED:
            return
        for name in FETCHED.get(tag, ()):
            for address in re.split(r"\s*,\s*|\s+", (values.get(name) or "").strip()):
                if ELSEWHERE.match(address):
                    self.addresses.append(address)

    def handle_data(self, data: str) -> None:
        if self.lasttag == "style":
            self.addresses += IN_STYLE.findall(data)


if __name__ == "__main__":
    sys.exit(main())
