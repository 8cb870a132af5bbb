"""The input benchmark runs as one command and says how many cores feed a step."""

import io
import json
import math
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import input as benchmark
from benchmarks import input_cores, input_pipeline, input_scale
from benchmarks.photos import load_jpegs

ROWS = [
    {"threads": 1, "workers": 0, "efficiency": 0.99},
    {"threads": 2, "workers": 0, "efficiency": 0.8},
    {"threads": 64, "workers": 0, "efficiency": 0.3},
    {"threads": 2, "workers": 2, "efficiency": 0.5},
]


def test_cores_come_from_the_rate_and_the_efficiency_at_as_many_threads_as_cores(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    rows = input_cores.table([100, 400, 401], pairs_per_s_core=250.0, pipeline=ROWS)
    assert [row["cores"] for row in rows] == [1, 2, 3]  # 200 images per second and core


def test_an_efficiency_above_one_counts_as_one(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    disturbed = [{"threads": 1, "workers": 0, "efficiency": 1.4}]
    assert input_cores.table([500], pairs_per_s_core=250.0, pipeline=disturbed)[0]["cores"] == 2
    with pytest.raises(ValueError, match="1 threads"):
        input_cores.pipeline_efficiency(ROWS[1:])


def test_one_command_measures_views_and_pipeline(tmp_path, monkeypatch, capsys):
    generator = np.random.default_rng(0)
    for number in range(64):
        encoded = io.BytesIO()
        Image.fromarray(generator.integers(256, size=(40, 50, 3)).astype(np.uint8)).save(encoded, format="JPEG")
        (tmp_path / f"{number:02d}.jpg").write_bytes(encoded.getvalue())
    for module in (benchmark, input_pipeline):
        monkeypatch.setattr(module, "RUNS", 1)
    monkeypatch.setattr(input_pipeline, "SETTINGS", ((1, 0),))
    benchmark.main([str(tmp_path), "--images-per-second=1234", "--batches=1"])
    *_, last = capsys.readouterr().out.splitlines()
    found = json.loads(last)
    assert found["pairs_ratio"] == pytest.approx(
        found["pairs_per_s_core"] / found["baseline_pairs_per_s_core"], rel=0.01
    )
    assert found["labeled_per_s_core"] > 0
    assert found["eval_per_s_core"] > 0
    (row,) = found["pipeline"]
    (needed,) = [row for row in found["cores"] if row["images_per_s"] == 1234]
    assert needed["cores"] == math.ceil(1234 / (found["pairs_per_s_core"] * min(1, row["efficiency"])))


def test_a_folder_without_photographs_is_named(tmp_path):
    with pytest.raises(SystemExit, match=str(tmp_path)):
        load_jpegs(tmp_path)


@pytest.mark.slow
def test_the_start_of_large_data_sets_is_measured_in_processes_of_their_own(tmp_path):
    command = [sys.executable, input_scale.__file__, f"--dir={tmp_path}", "--images=13000", "--kinds=folder"]
    lines = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.splitlines()
    built, made, found = map(json.loads, lines)
    assert built["images"] == 13000
    assert [made["index"], found["index"]] == ["made", "found"]
    for start in (made, found):
        parts = start["import_seconds"] + start["open_seconds"] + start["first_batch_seconds"]
        assert start["start_seconds"] == pytest.approx(parts, abs=0.05)
        assert 50 < start["peak_memory_mb"] < 1000
