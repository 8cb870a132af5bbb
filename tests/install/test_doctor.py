"""Tell what this machine has and what jax makes of it: `semivit doctor`, and the start of a run."""

import types

import jax
import pytest

from semivit_jax import main
from semivit_jax.cli import doctor
from semivit_jax.hosts import accelerators, devices, extras
from semivit_jax.hosts.accelerators import Machine, Nvidia
from semivit_jax.preflight import device_check
from semivit_jax.training import run
from tests.configs import small_config

L4 = Machine(Nvidia(("NVIDIA L4",), "580.65.06", (13, 0), (8, 9)), "")
V100 = Machine(Nvidia(("Tesla V100",), "580.65.06", (13, 0), (7, 0)), "")
DRIVERLESS = Machine(Nvidia((), "", (), ()), "")
TPU = Machine(None, "/dev/accel0")
NOTHING = Machine(None, "")


@pytest.fixture
def on(monkeypatch):
    """Puts this process on a machine, where jax runs on a backend and some extras are installed."""

    def put(machine, *, backend="cpu", platforms="", installed=()):
        monkeypatch.setenv("JAX_PLATFORMS", platforms)
        monkeypatch.setattr(devices, "jax", types.SimpleNamespace(default_backend=lambda: backend))
        monkeypatch.setattr(accelerators, "find", lambda: machine)
        monkeypatch.setattr(extras, "installed", lambda extra: extra in installed)

    return put


@pytest.mark.parametrize(("machine", "extra"), [(L4, "cuda13"), (V100, "cuda12"), (TPU, "tpu")])
def test_an_accelerator_that_jax_leaves_alone_names_the_command_that_mends_it(on, machine, extra):
    on(machine)
    told = devices.left_unused()
    assert told.startswith(f"this machine has {accelerators.described(machine)}, which jax does not use: ")
    assert told.endswith(extras.install_line(extra))
    assert f"[{extra}]" in told


def test_other_reasons_name_other_remedies(on):
    on(DRIVERLESS)
    assert "install NVIDIA's" in devices.left_unused()
    on(L4, installed=("cuda13",))
    assert "`semivit doctor` shows" in devices.left_unused()


@pytest.mark.parametrize(
    ("machine", "how"), [(NOTHING, {}), (L4, {"backend": "gpu"}), (L4, {"platforms": "cpu"}), (TPU, {"backend": "tpu"})]
)
def test_there_is_no_warning_where_all_is_as_wanted(on, machine, how):
    on(machine, **how)
    assert devices.left_unused() == ""


def test_what_jax_says_of_a_plugin_that_does_not_start_is_told(monkeypatch):
    assert devices.refusal(NOTHING) == ""
    monkeypatch.setattr(extras, "installed", lambda extra: True)
    assert "cuda" in devices.refusal(L4)  # here jax really has none


def test_a_wheel_names_what_an_extra_stands_for(tmp_path, monkeypatch):
    monkeypatch.setattr(extras, "__file__", str(tmp_path / "site-packages" / "semivit_jax" / "hosts" / "extras.py"))
    rows = ["jax>=0.10", 'jax[cuda13]; extra == "cuda13"', 'onnx>=1.17; extra == "onnx"']
    monkeypatch.setattr(extras.importlib.metadata, "requires", lambda name: rows)
    assert extras.install_line("cuda13").endswith(" -m pip install 'jax[cuda13]'")
    assert extras.install_line("onnx").endswith(" -m pip install 'onnx>=1.17'")


def test_what_refuses_the_pinned_versions_is_installed_without_them():
    assert "-c " not in extras.install_line("trackio")
    assert "-c " in extras.install_line("wandb")


def test_a_run_says_on_what_it_runs_and_warns_before_it_begins(monkeypatch, tmp_path, capsys):
    def begins(config, folder, book):
        print("begins")

    monkeypatch.setattr(run, "_train_held", begins)
    monkeypatch.setattr(devices, "left_unused", lambda: "this machine has a GPU")
    run.train(small_config(**{"train.compilation_cache": False}), tmp_path / "run")
    lines = capsys.readouterr().out.splitlines()
    expected = [f"Runs on {devices.running_on()}", "warning: this machine has a GPU", "begins"]
    assert [line for line in lines if line in expected] == expected
    assert f"{jax.device_count()} x cpu, jax {jax.__version__}" in expected[0]


def told(capsys):
    """Exit code, and rows by their name."""
    code = main.main(["semivit", "doctor"])
    lines = capsys.readouterr().out.splitlines()
    return code, {line[:24].strip(): line[25:] for line in lines}


def test_the_doctor_tells_what_a_report_needs(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "programs"))
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr(extras, "installed", lambda extra: extra == "torch")
    code, rows = told(capsys)
    assert code == 0
    assert f"jax {jax.__version__}, " in rows["packages"]
    assert "MISSING" not in rows["packages"]
    assert rows["cache"] == f"{tmp_path}/file/cache/semivit_jax, {tmp_path}/file is no folder"
    assert rows["compiled programs"].startswith(f"{tmp_path}/programs, ")
    assert rows["compiled programs"].endswith(" GiB free")
    assert rows["[torch]"].startswith("installed")
    assert rows["[onnx]"].startswith("missing")
    assert rows[""] == extras.install_line("trackio")  # the last
    assert rows["matmul"].startswith("1024 x 1024, float32: right, ")
    assert rows["attention, xla"].startswith("8 images of 197 tokens, float32: right, ")
    assert "hf_secret" not in str(rows)
    assert not (tmp_path / "programs").exists()  # it looks, and leaves nothing behind


def test_an_operation_that_computes_wrongly_is_an_error(capsys, monkeypatch):
    right = device_check.attend
    assert device_check.attention(1, "float32", "xla").right
    monkeypatch.setattr(device_check, "attend", lambda q, k, v, implementation: right(q, k * 1.01, v, implementation))
    wrong = device_check.attention(1, "float32", "xla")
    monkeypatch.setattr(device_check, "checks", lambda backend: {"attention, xla": lambda: wrong})
    code, rows = told(capsys)
    assert code == 1
    assert rows["attention, xla"].startswith("1 images of 197 tokens, float32: WRONG by 0.0")


def test_a_result_that_is_no_number_is_wrong(monkeypatch):
    assert not device_check.Checked("", float("nan"), 1e-2, 1.0).right
    assert device_check.matmul(128, "bfloat16").right


def test_an_operation_that_does_not_run_is_an_error(capsys, monkeypatch):
    def refuse():
        raise RuntimeError("cuDNN is not\n detected")

    monkeypatch.setattr(device_check, "checks", lambda backend: {"attention, cudnn": refuse})
    code, rows = told(capsys)
    assert (code, rows["attention, cudnn"]) == (1, "FAILS: cuDNN is not detected")


def test_a_jax_that_does_not_start_is_an_error(capsys, monkeypatch):
    def refuse():
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr(doctor.devices, "running_on", refuse)
    code, rows = told(capsys)
    assert (code, rows["jax does not start"]) == (1, "Unable to initialize backend 'cuda'")
    assert "[onnx]" in rows


@pytest.mark.parametrize("backend", ["cpu", "gpu", "tpu"])
def test_every_backend_has_checks_and_gpus_have_that_of_cudnn(backend):
    assert {"matmul", "attention, xla"} <= set(device_check.checks(backend))
    assert ("attention, cudnn" in device_check.checks(backend)) is (backend == "gpu")
