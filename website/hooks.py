"""Bring files beside docs/ into the site, and lead links to them to their pages.

On a disk, and where a repository is shown, such links lead to the files; so they are written that way.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

# File of the repository -> its page.
BROUGHT_IN = {"launch/README.md": "launchers.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(\]\()([^)\s]+?)(#[^)\s]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages of BROUGHT_IN."""
    root = Path(config.config_file_path).parent
    for source, page in BROUGHT_IN.items():
        files.append(File.generated(config, page, content=(root / source).read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites links that leave docs/ for a file that has a page, and those of the files brought in."""
    sources = {brought: source for source, brought in BROUGHT_IN.items()}
    here = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def led(match: re.Match[str]) -> str:
        start, target, anchor = match.group(1), match.group(2), match.group(3) or ""
        if ":" in target:
            return match.group()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(here), target))
        inside = BROUGHT_IN.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
        if inside is None:
            return match.group()  # mkdocs says what is wrong with it
        relative = posixpath.relpath(inside, posixpath.dirname(page.file.src_uri) or ".")
        return f"{start}{relative}{anchor})"

    return LINK.sub(led, markdown)
