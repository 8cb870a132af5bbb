"""What people read comes from one host."""

import jax
import pytest

from semivit_jax import console


@pytest.mark.parametrize(("host", "said"), [(0, "one line\n"), (1, "")])
def test_the_first_host_speaks_for_all(host, said, monkeypatch, capsys):
    monkeypatch.setattr(jax, "process_index", lambda: host)
    console.say("one line")
    assert capsys.readouterr().out == said
