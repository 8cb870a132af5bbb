"""Compiled programs kept in a bucket."""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from semivit_jax import files
from semivit_jax.training import programs

KEYS = ("jax_compilation_cache_dir", "jax_persistent_cache_enable_xla_caches")


@pytest.fixture
def cache(place, monkeypatch):
    """A start with the cache in a bucket; that of the tests comes back."""
    before = {key: getattr(jax.config, key) for key in KEYS}
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", f"{place}//programs/")
    jax.config.update("jax_persistent_cache_enable_xla_caches", "all")
    programs.keep_programs()
    compilation_cache.reset_cache()
    yield place / "programs"
    for key, value in before.items():
        jax.config.update(key, value)
    compilation_cache.reset_cache()


def test_a_program_kept_in_a_bucket_is_found_by_the_next_start(cache):
    def start():
        assert jax.jit(lambda x: 11 * x - 2)(2.0) == 20
        return programs.told()

    assert start() == f"; the step was not in {cache}, and is now"
    kept = files.below(cache)
    assert any(file.name.endswith("-cache") for file in kept)
    assert start() == f"; the step was compiled before, and came from {cache}"
    assert files.below(cache) == kept


def test_files_that_xla_itself_would_write_are_not_asked_for_in_a_bucket(cache):
    assert jax.config.jax_persistent_cache_enable_xla_caches == "none"
