"""Signals that come when there is nothing to save: before training listens to them."""

import os
import signal

import pytest

from semivit_jax import commands, run
from semivit_jax.stopping import leaving_at_once, listening

pytestmark = pytest.mark.filterwarnings(
    "ignore:the load_module:DeprecationWarning"
)  # how ml_collections reads a config


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_while_data_are_opened_ends_the_command_as_training_would(signum, code, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "open_task", lambda *_, **__: os.kill(os.getpid(), signum))
    assert commands.train(["--config=digits", f"--workdir={tmp_path / 'run'}"]) == code
    said = capsys.readouterr().out
    assert "nothing to save; start the same command again" in said
    assert not (tmp_path / "run" / "config.json").exists()  # another config may have the folder


def test_training_listens_inside_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with leaving_at_once():
        with listening() as request:
            os.kill(os.getpid(), signal.SIGTERM)
        assert request.exit_code == 75
    assert signal.getsignal(signal.SIGTERM) is before
