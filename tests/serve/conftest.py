"""One run folder for the whole session: writing a checkpoint takes a second."""

import pytest

from semivit_jax.main import main
from tests.serve.runs import write_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """(folder, config, params, ema_params) of a fine-tuned run, with a best checkpoint twice as large."""
    folder = tmp_path_factory.mktemp("runs") / "digits"
    return folder, *write_run(folder, best=True)


@pytest.fixture(scope="session")
def imported(finished, tmp_path_factory):
    """Folder of that run's import; what changes it makes a copy."""
    folder = tmp_path_factory.mktemp("imports") / "in"
    assert main(["semivit", "import", str(finished[0]), "--model=vit_test2", f"--out={folder}"]) == 0
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """Scans of folders are kept in the user's cache, which tests must not fill."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
