"""Two thousand steps: memory and open files stay where they were."""

import ctypes
import gc
import os
from pathlib import Path

import numpy as np
import pytest

from semivit_jax.training import loop, run, summary
from tests.configs import small_config

pytestmark = pytest.mark.slow

STEPS, WARM_UP = 2_000, 500


def resident_bytes():
    """Memory of this process that is in use, from the kernel."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_and_open_files_do_not_grow(tmp_path, monkeypatch):
    samples, release_free_memory = [], ctypes.CDLL("libc.so.6").malloc_trim
    show = loop.Loop._log

    def log_and_sample(self, step):
        show(self, step)
        gc.collect()
        release_free_memory(0)  # or what the allocator keeps for later, 5 % more or less, would count too
        samples.append((step, resident_bytes(), len(os.listdir("/proc/self/fd"))))

    monkeypatch.setattr(loop.Loop, "_log", log_and_sample)
    monkeypatch.setattr(summary, "baselines", lambda task, data: {})
    values = {
        "stages": ("finetune",), "finetune.epochs": STEPS / 2, "finetune.warmup_epochs": 1.0,
        "finetune.batch_size": 16, "finetune.mixup_group_size": 2, "train.eval_every_epochs": 50.0,
        "checkpoint.save_every_steps": 50, "log.every_steps": 50,
    }  # fmt: skip
    run.train(small_config(**values), tmp_path)
    warm = [s for s in samples if s[0] > WARM_UP]
    assert samples[-1][0] == STEPS
    early, late = (np.median([s[1] for s in part]) for part in (warm[:5], warm[-5:]))
    assert late <= 1.05 * early
    assert max(s[2] for s in warm[-5:]) <= max(s[2] for s in warm[:5])
