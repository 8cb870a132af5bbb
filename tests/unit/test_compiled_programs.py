"""The cache of compiled programs that tests share cannot break a test (`tests/conftest.py`)."""

import re
import shutil

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache


@pytest.fixture
def cache(tmp_path):
    """An empty cache in the place of the shared one."""
    shared = jax.config.jax_compilation_cache_dir
    use(tmp_path / "own")
    yield tmp_path / "own"
    use(shared)


def use(folder):
    jax.config.update("jax_compilation_cache_dir", str(folder))
    compilation_cache.reset_cache()


def test_a_damaged_entry_is_compiled_anew_with_a_warning_that_is_no_error(cache, pytestconfig):
    def compiled():
        return jax.jit(lambda x: 3 * x + 1)

    assert compiled()(2.0) == 7
    entries = list(cache.glob("jit__lambda*-cache"))
    assert entries
    for entry in entries:
        entry.write_bytes(b"damaged")
    with pytest.warns(UserWarning, match="persistent compilation cache") as told:
        assert compiled()(2.0) == 7
    lenient = [line.split(":")[1] for line in pytestconfig.getini("filterwarnings") if line.startswith("default:")]
    assert all(any(re.match(pattern, str(one.message)) for pattern in lenient) for one in told)


def test_a_program_is_found_under_another_path(cache, tmp_path):
    """As every run of the tests has its own for the processes that it starts."""

    def compiled():
        return jax.jit(lambda x: 5 * x + 2)

    assert compiled()(2.0) == 12
    other = shutil.copytree(cache, tmp_path / "other")
    use(other)
    assert compiled()(2.0) == 12
    assert {entry.name for entry in other.glob("*-cache")} == {entry.name for entry in cache.glob("*-cache")}
