"""One store for all tests of a process, and runs of a real `semivit train` in it."""

import itertools
import os

import pytest

from semivit_jax import files
from semivit_jax.files import patience
from tests.bucket import emulator
from tests.e2e.conftest import go_on_here, machine, run_semi  # noqa: F401 - fixtures

_numbers = itertools.count()


@pytest.fixture(scope="session")
def store_url():
    if why := emulator.why_not():
        pytest.skip(why)
    with emulator.running() as url:
        yield url


@pytest.fixture
def place(store_url, monkeypatch):
    """A folder of its own in the bucket, as `files` gives it."""
    emulator.point_to(store_url, monkeypatch.setenv)
    return files.path(emulator.address(f"{os.getpid()}_{next(_numbers)}/run"))


@pytest.fixture
def proxy(store_url, monkeypatch):
    """The same store behind a proxy."""
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 20.0)  # for a test that goes wrong
    found = emulator.Proxy(store_url)
    emulator.point_to(found.url, monkeypatch.setenv)
    yield found
    found.close()


@pytest.fixture
def place_behind(proxy):
    return files.path(emulator.address(f"{os.getpid()}_{next(_numbers)}/run"))
