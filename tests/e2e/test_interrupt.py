"""Ctrl-C at many moments of every command that takes long: an answer, 130, and an output that is whole or not there."""

import os
import pty
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from semivit_jax.weights import vit_names
from tests.state_dicts import PIXELS, state_dict

pytestmark = pytest.mark.slow
SECONDS_TO_ANSWER = 2.0  # one, and one more for a busy machine
MOMENTS = (0.3, 0.6, 0.75, 0.9, 0.98)  # shares of the time that the command takes
COMMANDS = {
    "import": ["{box}/model.safetensors", "--model=vit_test", f"--image_size={PIXELS}", "--out={out}/imported"],
    "export": ["--workdir={box}/imported", "--format=stablehlo", "--out={out}/deploy"],
    "predict": ["--workdir={box}/imported", "--images={box}/photos", "--out={out}/predictions.csv"],
    "eval": ["--workdir={box}/imported", "--images={box}/photos", "--out={out}/grades.json"],
    "split": ["--config=own_folder", "--config.data.root={box}/photos", "--out={out}/list.csv"],
    "plan": ["--config=digits", "--topology=v5e:2x2", "--stage=semi", "--out={out}/plan.json"],
}


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    """A folder of photos of two classes, a file of weights, and an import of it."""
    folder, rng = tmp_path_factory.mktemp("box"), np.random.default_rng(0)
    tensors = state_dict(vit_names.TIMM)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    for place in range(60):
        photo = folder / "photos" / str(place % len(tensors["head.bias"])) / f"{place}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).save(photo)
    code, _ = finish(start("import", folder, folder)[0])
    assert code == 0
    return folder


def start(name, box, out):
    """The command as a terminal starts it, and the terminal's other end."""
    argv = [sys.executable, "-m", "semivit_jax.main", name, *(part.format(box=box, out=out) for part in COMMANDS[name])]
    terminal, end = pty.openpty()
    environ = os.environ | {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": f"{box}/cache", "TERM": "xterm"}
    process = subprocess.Popen(argv, stdout=end, stderr=end, stdin=end, env=environ, start_new_session=True)
    os.close(end)
    return process, terminal


def finish(process):
    began = time.monotonic()
    return process.wait(timeout=300), time.monotonic() - began


def read(terminal, *, until):
    """Reads the terminal up to a text; returns what came, and the seconds until it was there, or None if it ended."""
    began, text = time.monotonic(), b""
    while until not in text:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # the process has gone, and with it the other end
            part = b""
        if not part:
            return text, None
        text += part
    return text, time.monotonic() - began


def written(out):
    return {path.relative_to(out): path.stat().st_size for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_is_answered_and_leaves_no_half_written_output(name, box, tmp_path):
    (tmp_path / "whole").mkdir()
    process, terminal = start(name, box, tmp_path / "whole")
    began = time.monotonic()
    read(terminal, until=b"\0")
    assert process.wait() == 0
    seconds, whole = time.monotonic() - began, written(tmp_path / "whole")
    assert whole
    for share in MOMENTS:
        out = tmp_path / f"at_{share}"
        out.mkdir()
        process, terminal = start(name, box, out)
        time.sleep(share * seconds)
        os.killpg(process.pid, signal.SIGINT)
        text, answered = read(terminal, until=f"semivit: stopping {name}".encode())
        rest, _ = read(terminal, until=b"\0")
        code = process.wait(timeout=60)
        assert b"Traceback" not in text + rest
        assert code in (0, 130), (share, text)
        if code == 130:
            # None: it was done, and said another line in its last moments.
            assert answered is None or answered < SECONDS_TO_ANSWER, share
            assert written(out) in ({}, whole), share
        else:
            assert written(out) == whole, share
