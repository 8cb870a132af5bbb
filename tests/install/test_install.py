"""Decide what `make install` installs (`requirements/install.py`), and agree on it everywhere."""

import ast
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from semivit_jax.hosts import extras

ROOT = Path(__file__).parents[2]


def loaded(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "requirements" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def install(monkeypatch):
    """The script, on a machine with an old GPU, where nothing is really installed."""
    module = loaded("install")
    monkeypatch.setattr(module, "find", lambda: ("cuda12", "found 1 x NVIDIA L4 (driver 535.104.05, CUDA 12.2)"))
    return module


@pytest.fixture
def calls(install, monkeypatch):
    """Every command that it gives."""
    made = []

    def call(command):
        made.append(command)
        if "venv" in command:
            Path(command[-1]).mkdir(exist_ok=True)
        return 0

    monkeypatch.setattr(install.subprocess, "call", call)
    monkeypatch.setattr(install.subprocess, "check_call", call)
    return made


def asked_for(command):
    return re.search(r"\[(.*)\]$", command[-1])[1].split(",")


def test_what_is_found_is_said_and_installed_once(install, calls, tmp_path, capsys):
    arguments = [f"--venv={tmp_path / 'venv'}"]
    assert install.main(arguments) == 0
    assert capsys.readouterr().out == (
        f"Installs for cuda12 into {tmp_path}/venv: found 1 x NVIDIA L4 (driver 535.104.05, CUDA 12.2)\n"
    )
    assert asked_for(calls[-1]) == ["dev", "cuda12"]
    calls.clear()
    assert install.main(arguments) == 0
    assert not calls
    assert not capsys.readouterr().out


def test_words_are_remembered_until_given_again(install, calls, tmp_path):
    venv = f"--venv={tmp_path / 'venv'}"
    given = [
        (["--accelerator=cpu", "--extras=torch,onnx"], ["dev", "onnx", "torch"]),
        ([], None),
        (["--extras=onnx,torch"], None),
        (["--extras=torch,onnx,plan"], ["dev", "onnx", "plan", "torch"]),
        (["--accelerator="], ["dev", "cuda12", "onnx", "plan", "torch"]),
        (["--extras="], ["dev", "cuda12"]),
        ([], None),
    ]
    for arguments, installed in given:
        calls.clear()
        assert install.main([venv, *arguments]) == 0
        assert (asked_for(calls[-1]) if calls else None) == installed, arguments


@pytest.mark.parametrize(
    ("arguments", "anew"),
    [
        (["--extras=onnx,torch"], False),
        (["--extras=torch"], True),  # pip would leave onnx there
        (["--accelerator=cuda13"], True),  # two CUDA plugins are one too many
    ],
)
def test_the_environment_is_made_anew_where_something_must_go(install, calls, tmp_path, arguments, anew):
    venv = f"--venv={tmp_path / 'venv'}"
    install.main([venv, "--extras=onnx"])
    calls.clear()
    install.main([venv, *arguments])
    assert ("--clear" in calls[0]) is anew


def test_another_python_or_other_requirements_install_again(install, calls, tmp_path, monkeypatch):
    venv = f"--venv={tmp_path / 'venv'}"
    install.main([venv])
    another = (3, 12, 0) if sys.version_info[:2] != (3, 12) else (3, 13, 0)
    for name, value, anew in (("checksum", lambda: "other", False), ("sys", fake_sys(another), True)):
        calls.clear()
        monkeypatch.setattr(install, name, value)
        assert install.main([venv, "--python"]) == 0
        assert ("--clear" in calls[0]) is anew


@pytest.mark.parametrize("version", [(3, 12, 0), (3, 8, 18)])
def test_a_python_that_is_merely_found_changes_nothing(install, calls, tmp_path, monkeypatch, version):
    """One was named at first; on the path there is another, or none that will do."""
    venv, first = f"--venv={tmp_path / 'venv'}", sys._base_executable
    install.main([venv, "--python"])
    calls.clear()
    monkeypatch.setattr(install, "sys", fake_sys(version))
    assert install.main([venv]) == 0
    assert not calls
    assert install.main([venv, "--extras=onnx"]) == 0
    assert calls[0][0] == first
    assert "--clear" not in calls[0]


def test_an_accelerator_that_is_not_found_any_more_is_kept(install, calls, tmp_path, monkeypatch):
    """A login node beside the nodes with GPUs; or nvidia-smi that did not answer. `ACCELERATOR=` looks anew."""
    venv = f"--venv={tmp_path / 'venv'}"
    install.main([venv])
    calls.clear()
    monkeypatch.setattr(install, "find", lambda: ("cpu", "found no accelerator"))
    assert install.main([venv]) == 0
    assert not calls
    assert install.main([venv, "--accelerator="]) == 0
    assert asked_for(calls[-1]) == ["dev"]


def test_an_accelerator_that_is_found_later_is_installed_for(install, calls, tmp_path, monkeypatch):
    venv, later = f"--venv={tmp_path / 'venv'}", install.find
    monkeypatch.setattr(install, "find", lambda: ("cpu", "found no accelerator"))
    install.main([venv])
    monkeypatch.setattr(install, "find", later)
    assert install.main([venv]) == 0
    assert asked_for(calls[-1]) == ["dev", "cuda12"]


def fake_sys(version):
    return type("Sys", (), {"version_info": version, "executable": "/usr/bin/python3", "stderr": sys.stderr})


def test_an_installation_that_fails_or_is_cut_off_is_begun_again(install, calls, tmp_path, monkeypatch):
    venv = f"--venv={tmp_path / 'venv'}"
    monkeypatch.setattr(install.subprocess, "call", lambda command: 1)
    assert install.main([venv, "--accelerator=cuda13"]) == 1
    calls.clear()
    monkeypatch.setattr(install.subprocess, "call", lambda command: calls.append(command) or 0)
    assert install.main([venv, "--accelerator=cpu"]) == 0
    assert "--clear" in calls[0]  # some of cuda13 may be there
    assert asked_for(calls[-1]) == ["dev"]


def test_an_empty_stamp_of_earlier_versions_is_installed_over(install, calls, tmp_path):
    (tmp_path / ".installed").touch()
    assert install.main([f"--venv={tmp_path}", "--accelerator=cpu"]) == 0
    assert "--clear" not in calls[0]
    assert json.loads((tmp_path / ".installed").read_text())["accelerator"] == "cpu"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--accelerator=gpu"], "ACCELERATOR=gpu is unknown; legal are cpu, cuda12, cuda13, tpu"),
        (
            ["--extras=onnx,s3"],
            "EXTRAS=s3 is unknown; legal are gcs, heic, onnx, report, select, label, torch, plan, wandb, mlflow",
        ),
    ],
)
def test_unknown_words_are_refused_with_the_legal_ones(install, calls, capsys, arguments, message):
    assert install.main(arguments) == 2
    assert capsys.readouterr().err.strip() == message
    assert not calls


def test_a_python_that_will_not_do_says_what_will(install, calls, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(install, "sys", fake_sys((3, 8, 18)))
    assert install.main([f"--venv={tmp_path}"]) == 1
    assert install.main(["--supported"]) == 1
    told = capsys.readouterr().err
    assert told == (
        "semivit_jax needs Python 3.11 to 3.14; /usr/bin/python3 is 3.8. Name another: make install "
        "PYTHON=/path/to/python3.12\n"
    )
    assert not calls


def test_a_python_without_venv_names_the_package(install, calls, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else object())
    assert install.main([f"--venv={tmp_path}"]) == 1
    version = "{}.{}".format(*sys.version_info[:2])
    assert capsys.readouterr().err.endswith(f"on Debian and Ubuntu: apt install python{version}-venv\n")


def test_the_script_s_syntax_is_that_of_an_old_python():
    ast.parse((ROOT / "requirements" / "install.py").read_text(), feature_version=(3, 6))
    ast.parse((ROOT / "semivit_jax" / "hosts" / "accelerators.py").read_text(), feature_version=(3, 8))


def setup_values():
    """Keyword arguments of setup() that are plain values."""
    call = next(
        node
        for node in ast.walk(ast.parse((ROOT / "setup.py").read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "setup"
    )
    names = ("python_requires", "extras_require", "classifiers")
    return {k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg in names}


def test_the_same_extras_are_known_everywhere(install):
    known = set(setup_values()["extras_require"])
    pinned = known - {"trackio"}  # which asks for an older Pillow than the pinned one
    assert pinned == {*install.ACCELERATORS, *install.EXTRAS, "cuda", "dev"} - {"cpu"}
    assert set(extras.EXTRAS) == known - {"cuda", "dev", "plan"}  # plan brings what tpu does
    assert setup_values()["extras_require"]["cuda"] == setup_values()["extras_require"]["cuda13"]
    assert set(loaded("check_versions").EXTRAS) == pinned | {""}


def test_the_same_pythons_are_claimed_everywhere(install):
    values = setup_values()
    claimed = [f"3.{minor}" for minor in range(install.OLDEST[1], install.NEWEST[1] + 1)]
    assert values["python_requires"] == f">={claimed[0]},<3.{install.NEWEST[1] + 1}"
    said = [c.rpartition(" ")[2] for c in values["classifiers"] if c.startswith("Programming Language :: Python :: 3.")]
    assert said == claimed == list(loaded("check_versions").PYTHONS)
    assert sorted(set(re.findall(r"python(3\.\d+)", (ROOT / "Makefile").read_text()))) == claimed
    oldest = claimed[0].replace(".", "")
    assert f'target-version = "py{oldest}"' in (ROOT / "pyproject.toml").read_text()
