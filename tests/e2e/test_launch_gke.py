"""The manifest that gke.sh hands to kubectl is a legal JobSet, and says what was asked for."""

import json
import pathlib

import jsonschema
import pytest
import yaml

from tests.e2e.launching import Stage

SCHEMA = json.loads((pathlib.Path(__file__).parent / "data" / "jobset_v1alpha2.json").read_text())
RUN = ("--config=digits", "--workdir=/mnt/shared/a b")


@pytest.fixture
def stage(tmp_path) -> Stage:
    return Stage(folder=tmp_path)


def manifest_of(stage: Stage, *options: str) -> dict:
    """The manifest that gke.sh hands to kubectl."""
    stage.stand_in("kubectl", "cat >manifest")
    code, output = stage.run("gke.sh", "--name=vit", "--image=r/s:1", "--claim=disk", *options)
    assert code == 0, output
    assert stage.calls("kubectl") == [["kubectl", "apply", "--namespace=default", "--filename=-"]]
    manifest = yaml.safe_load((stage.folder / "manifest").read_text())
    jsonschema.validate(manifest, SCHEMA)
    return manifest


def test_gke_manifest_of_a_tpu_slice(stage):
    manifest = manifest_of(stage, "--accelerator=tpu-v5-lite-podslice", "--topology=4x8", "--max-restarts=5", *RUN)
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    assert job["parallelism"] == job["completions"] == 8
    assert pod["nodeSelector"] == {
        "cloud.google.com/gke-tpu-accelerator": "tpu-v5-lite-podslice",
        "cloud.google.com/gke-tpu-topology": "4x8",
    }
    assert pod["containers"][0]["resources"]["limits"] == {"google.com/tpu": 4}
    assert pod["containers"][0]["args"] == ["semivit", "train", *RUN]
    assert {entry["name"]: entry["value"] for entry in pod["containers"][0]["env"]} == {
        "SEMIVIT_COORDINATOR": "vit-workers-0-0.vit:8476",
        "SEMIVIT_NUM_PROCESSES": "8",
    }


def test_gke_manifest_of_gpu_nodes_with_a_volume(stage):
    manifest = manifest_of(stage, "--accelerator=nvidia-h100-80gb", "--nodes=2", "--gpus-per-node=8", *RUN)
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    assert job["parallelism"] == 2
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": 8}
    assert {"name": "shared", "persistentVolumeClaim": {"claimName": "disk"}} in pod["volumes"]
    assert {mount["name"] for mount in pod["containers"][0]["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }


def test_gke_restarts_without_counting_after_preemption_only(stage):
    manifest = manifest_of(stage, "--accelerator=a", "--nodes=2", "--gpus-per-node=8", *RUN)
    assert manifest["spec"]["failurePolicy"]["maxRestarts"] == 10
    (rule,) = manifest["spec"]["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == (
        "RestartJobSetAndIgnoreMaxRestarts",
        ["PodFailurePolicy"],
    )
    job = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]
    by_code, by_node = job["podFailurePolicy"]["rules"]
    assert by_code["onExitCodes"]["values"] == [75]
    assert by_code["onExitCodes"]["containerName"] == job["template"]["spec"]["containers"][0]["name"]
    assert by_node["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]


def test_gke_keeps_any_argument_as_it_is(stage):
    awkward = ['--config.name=a "b" \\c', "--config.note=${NAME} & {x: [1]}", "--config.text=it's #1"]
    manifest = manifest_of(stage, "--accelerator=a", "--nodes=2", "--gpus-per-node=8", *RUN, "--", *awkward)
    pod = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["args"] == ["semivit", "train", *RUN, *awkward]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--topology=4x4", "--name=Vit_H"], "--name=Vit_H"),
        (["--topology=4by4"], "--topology=4by4"),
        (["--topology=3x3"], "--topology=3x3 does not divide into --chips-per-node=4"),
        (["--topology=4x4", "--nodes=2"], "--topology excludes --nodes"),
        (["--nodes=2"], "--gpus-per-node=... is missing"),
    ],
)
def test_gke_refuses_impossible_shapes(stage, options, message):
    stage.stand_in("kubectl", "exit 9")
    code, output = stage.run("gke.sh", "--name=vit", "--image=i", "--accelerator=a", "--claim=disk", *RUN, *options)
    assert code == 2
    assert message in output
    assert stage.calls() == []
