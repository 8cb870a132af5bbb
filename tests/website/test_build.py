"""What a page of the site would load from elsewhere is found, in whatever way it is asked for."""

import pytest

from website.build import fetched_from_elsewhere

LOADED = {
    "script": '<script src="https://cdn.example/a.js"></script>',
    "without a scheme": '<script src="//cdn.example/a.js"></script>',
    "style sheet": '<link rel="stylesheet" href="https://cdn.example/a.css">',
    "early connection": '<link rel="preconnect" href="https://cdn.example">',
    "picture": '<img src="https://cdn.example/a.png">',
    "one of several pictures": '<img srcset="a.png 1x, https://cdn.example/b.png 2x">',
    "frame": '<iframe src="https://cdn.example"></iframe>',
    "style of an element": '<p style="background: url(https://cdn.example/a.png)">',
    "style of a page": "<style>@import 'https://cdn.example/a.css';</style>",
}
OWN = '<a href="https://example.org">x</a><img src="a.png"><link rel="canonical" href="https://example.org/a.html">'


@pytest.mark.parametrize("kind", LOADED)
def test_what_a_page_loads_is_found(tmp_path, kind):
    (tmp_path / "a.html").write_text(OWN + LOADED[kind])
    assert len(list(fetched_from_elsewhere(tmp_path))) == 1


def test_a_font_that_a_style_loads_is_found(tmp_path):
    (tmp_path / "a.css").write_text('@font-face { src: url("https://cdn.example/a.woff2") }')
    assert [address for _, address in fetched_from_elsewhere(tmp_path)] == ["https://cdn.example/a.woff2"]


def test_links_and_own_files_are_no_matter(tmp_path):
    (tmp_path / "a.html").write_text(OWN)
    (tmp_path / "a.css").write_text("p { background: url(a.png) }")
    assert list(fetched_from_elsewhere(tmp_path)) == []
