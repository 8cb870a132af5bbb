"""Keep compiled programs: a convenience that stops nothing, for a user and for the tests (`tests/conftest.py`)."""

import os
import re
import shutil

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from semivit_jax.hosts import extras
from semivit_jax.training import programs


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


def test_a_start_tells_whether_its_step_was_compiled_before(cache):
    def start():
        programs._listen()
        assert jax.jit(lambda x: 7 * x - 1)(2.0) == 13
        return programs.told()

    assert start() == f"; the step was not in {cache}, and is now"
    assert start() == f"; the step was compiled before, and came from {cache}"


def test_a_step_that_no_cache_was_asked_for_tells_nothing(monkeypatch):
    monkeypatch.setattr(programs, "_heard", programs._Heard())
    assert programs.told() == ""


@pytest.fixture
def kept_in(cache, tmp_path, monkeypatch):
    """The folder that a start keeps programs in, with a user's cache at tmp_path / 'user'."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")

    def start():
        jax.config.update("jax_compilation_cache_dir", None)
        programs.keep_programs()
        return jax.config.jax_compilation_cache_dir

    return start


def test_programs_are_kept_in_the_users_cache(kept_in, tmp_path):
    assert kept_in() == str(tmp_path / "user" / "semivit_jax" / "compiled")


def test_a_place_that_the_user_has_named_is_left_to_jax(kept_in, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/mine")
    assert kept_in() is None


def test_an_address_that_is_none_is_named_and_done_without(kept_in, monkeypatch, caplog):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "gs:/bucket/programs")
    assert kept_in() is None
    (told,) = caplog.messages
    assert told.endswith("next start: JAX_COMPILATION_CACHE_DIR=gs:/bucket/programs has one slash too few; "
                         "write gs://bucket/programs")  # fmt: skip


def test_a_bucket_without_the_extra_is_named_and_done_without(kept_in, monkeypatch, caplog):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "gs://bucket/programs")
    monkeypatch.setattr(extras, "installed", lambda extra: False)
    assert kept_in() is None
    (told,) = caplog.messages
    assert "JAX_COMPILATION_CACHE_DIR=gs://bucket/programs: buckets need the extra [gcs]: " in told
    assert "\n" not in told


@pytest.mark.parametrize("unfit", ["a file", "read-only"])
def test_a_cache_that_cannot_be_written_to_is_named_and_done_without(kept_in, tmp_path, monkeypatch, caplog, unfit):
    if unfit == "a file":
        (tmp_path / "user").touch()
    else:
        monkeypatch.setattr(os, "access", lambda *_: False)
    assert kept_in() is None
    assert re.search(r"not kept for the next start, since /.*; set XDG_CACHE_HOME or JAX_COMPILATION", caplog.text)
