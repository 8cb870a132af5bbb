"""The breaks still fit the code; `make test-breaks` shows that each one is noticed."""

import pytest

from tests.breaks import BREAKS
from tests.breaks.run import PACKAGE, ROOT

FEWEST = 60


@pytest.mark.parametrize("name", BREAKS)
def test_a_break_applies(name):
    one = BREAKS[name]
    text = (PACKAGE / one.path).read_text()
    assert text.count(one.old) == 1, f"in {one.path}: where the code has moved, change the path; else the old text"
    compile(text.replace(one.old, one.new), one.path, "exec")
    assert [file for file in (test.partition("::")[0] for test in one.tests) if not (ROOT / file).is_file()] == []


def test_there_is_one_for_every_room():
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} - {"configs"}
    assert rooms - {one.path.partition("/")[0] for one in BREAKS.values()} == set()
    assert len(BREAKS) >= FEWEST
