"""Loggers and profiles of a run whose workdir is a bucket."""

import json
import sys
import time

import jax
import jax.numpy as jnp

from semivit_jax import files
from semivit_jax.checkpoints import workdir
from semivit_jax.config import to_dict
from semivit_jax.main import main
from semivit_jax.training import lease, profiling, writers
from semivit_jax.training.profiling import Profiler
from tests.configs import small_config
from tests.unit.test_loggers import Trackio


def claim(place, **values):
    config = small_config(**values)
    (place / "config.json").write_text(json.dumps(to_dict(config)))
    return config.log


def test_a_trace_is_asked_for_and_brought(place, monkeypatch):
    """Written on this machine; the request is an object, found and taken away in a thread."""
    monkeypatch.setattr(profiling, "LOOK_SECONDS", 0.0)
    log = claim(place)
    workdir.mark_done(place / "mae")
    with lease.held(place):
        assert main(["semivit", "profile", f"--workdir={place}", "--steps=1"]) == 0
    profiler = Profiler(place / "finetune", log, active=True)
    profiler.look()
    while profiler._looking.is_alive():
        time.sleep(0.01)
    assert not (place / profiling.REQUEST).exists()
    for done in range(2):
        profiler.before_update(done, jax.jit(jnp.sin)(1.0))
    profiler.close()
    (trace,) = [name for name in files.inventory(place / "finetune" / "profile") if name.endswith(".xplane.pb")]
    assert trace.startswith("plugins/profile/")


def test_a_restart_finds_its_run_of_a_service(place, monkeypatch):
    service = Trackio()
    monkeypatch.setitem(sys.modules, "trackio", service)
    log = claim(place, **{"log.writers": ("jsonl", "trackio")})
    for _ in range(2):
        writers.open_writers(place / "semi", log, active=True, restored_step=None).close()
    first, second = service.begun
    assert first == second
    assert first["group"] == str(place)
