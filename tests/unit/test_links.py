"""Links and mentions of pages lead somewhere: those that no site is built from, and those in code too."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXTS = (".md", ".py", ".sh", ".sbatch", ".yaml", ".yml", ".toml", ".cff")
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *ROOT.glob("launch/*.md"), *ROOT.glob("docs/**/*.md")]
)


def anchors(page: Path) -> set[str]:
    """What the headings of a page can be reached by, as GitHub and MkDocs make it from their words."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def broken(page: str) -> list[str]:
    """Links of a page to files that are not there, or to headings that they do not have."""
    found = []
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        place, _, anchor = target.partition("#")
        if ":" in place:
            continue
        file = (ROOT / page).parent / place if place else ROOT / page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES)
def test_links_of_a_page_lead_somewhere(page):
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.unit.test_links.ROOT", tmp_path)
    (tmp_path / "a.md").write_text("# One\n[x](b.md) [y](#two) [z](#one) [w](https://example.org/b.md)")
    assert broken("a.md") == ["b.md", "#two"]


def test_pages_that_code_mentions_exist():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    mentioned = {
        (file, page)
        for file in tracked
        if file.endswith(TEXTS)
        for page in re.findall(r"\bdocs/[\w/-]+\.md\b", (ROOT / file).read_text())
    }
    assert mentioned
    assert [pair for pair in mentioned if not (ROOT / pair[1]).exists()] == []
