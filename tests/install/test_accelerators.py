"""Find accelerators on machines of many kinds, and the extra that fits (`hosts/accelerators.py`)."""

import subprocess
import sys

import pytest

from semivit_jax.hosts import accelerators
from tests.install.machines import files, nvidia_smi, without_nvidia_smi

H100 = nvidia_smi("580.65.06", "13.0", "9.0, NVIDIA H100 80GB HBM3", "9.0, NVIDIA H100 80GB HBM3")
OLD_KERNEL = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
OPEN_KERNEL = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder)\n"
ON_THE_BUS = {"sys/bus/pci/devices/0/vendor": "0x10de\n", "sys/bus/pci/devices/0/class": "0x030200\n"}


def found(tmp_path, ask=without_nvidia_smi, environ=None, **contents):
    return accelerators.find(root=files(tmp_path, contents), environ=environ or {}, ask=ask)


@pytest.mark.parametrize(
    ("ask", "extra"),
    [
        (H100, "cuda13"),
        (nvidia_smi("570.86.10", "12.8", "8.9, NVIDIA L4"), "cuda12"),
        (nvidia_smi("525.60.13", "12.0", "8.0, NVIDIA A100-SXM4-40GB"), "cuda12"),
        # CUDA 13 has left Volta, and one old GPU decides for all.
        (nvidia_smi("580.65.06", "13.0", "7.0, Tesla V100-SXM2-16GB"), "cuda12"),
        (nvidia_smi("580.65.06", "13.0", "9.0, NVIDIA H100 80GB HBM3", "6.1, NVIDIA GeForce GTX 1080"), "cuda12"),
        (nvidia_smi("580.65.06", "13.0", "7.5, Tesla T4"), "cuda13"),
        (nvidia_smi("580.65.06", "N/A", "9.0, NVIDIA H100 80GB HBM3"), "cuda13"),  # a container without libcuda
        (nvidia_smi("535.104.05", "N/A"), "cuda12"),
        (nvidia_smi("470.82.01", "11.4"), ""),
        (nvidia_smi("580.65.06", "13.0", "3.7, Tesla K80"), ""),
        (without_nvidia_smi, ""),
    ],
)
def test_driver_and_oldest_gpu_decide_which_cuda(tmp_path, ask, extra):
    assert accelerators.extra(found(tmp_path, ask)) == extra


def test_what_is_found_is_said(tmp_path):
    machine = found(tmp_path, H100)
    assert accelerators.described(machine) == "2 x NVIDIA H100 80GB HBM3 (driver 580.65.06, CUDA 13.0)"
    assert not accelerators.obstacle(machine)
    assert accelerators.described(found(tmp_path)) == "no accelerator"


@pytest.mark.parametrize("header", ["CUDA Version : 13.1", "CUDA UMD Version: 13.1"])
def test_the_ways_in_which_nvidia_smi_writes_it(tmp_path, header):
    machine = found(tmp_path, lambda *arguments: None if arguments else f"Driver Version : 590.44.01 {header}")
    assert accelerators.described(machine) == "NVIDIA GPU (driver 590.44.01, CUDA 13.1)"


@pytest.mark.parametrize(("kernel", "extra"), [(OLD_KERNEL, "cuda12"), (OPEN_KERNEL, "cuda13")])
def test_a_container_without_nvidia_smi_has_the_kernel_s_word(tmp_path, kernel, extra):
    machine = found(tmp_path, **{"proc/driver/nvidia/version": kernel, "dev/nvidia0": ""})
    assert accelerators.extra(machine) == extra


def test_a_container_that_was_given_no_gpu_has_none(tmp_path):
    assert accelerators.described(found(tmp_path, **{"proc/driver/nvidia/version": OPEN_KERNEL})) == "no accelerator"


@pytest.mark.parametrize(
    ("ask", "contents", "remedy"),
    [
        (without_nvidia_smi, ON_THE_BUS, "no driver here: install NVIDIA's, 525 or newer, or start the container with"),
        (nvidia_smi("470.82.01", "11.4"), {}, "needs driver 525 or newer"),
        (nvidia_smi("580.65.06", "13.0", "3.7, Tesla K80"), {}, "compute capability 3.7"),
    ],
)
def test_a_gpu_that_no_extra_serves_says_why(tmp_path, ask, contents, remedy):
    machine = found(tmp_path, ask, **contents)
    assert accelerators.extra(machine) == ""
    assert remedy in accelerators.obstacle(machine)


@pytest.mark.parametrize(
    ("contents", "environ", "is_tpu"),
    [
        ({"dev/accel0": "", "dev/accel1": ""}, {}, True),
        ({"dev/vfio/0": "", "sys/class/dmi/id/product_name": "Google Compute Engine\n"}, {}, True),
        ({"dev/vfio/0": "", "dev/vfio/vfio": ""}, {"TPU_WORKER_ID": "0"}, True),
        ({"dev/vfio/12": "", "dev/vfio/vfio": "", "sys/class/dmi/id/product_name": "ProLiant\n"}, {}, False),
        ({"dev/accel/accel0": ""}, {}, False),  # other makers' chips
        ({"sys/class/dmi/id/product_name": "Google Compute Engine\n"}, {}, False),
    ],
)
def test_a_tpu_is_told_from_other_devices(tmp_path, contents, environ, is_tpu):
    assert accelerators.extra(found(tmp_path, environ=environ, **contents)) == ("tpu" if is_tpu else "")


def test_an_nvidia_smi_that_fails_is_none(tmp_path, monkeypatch):
    command = tmp_path / "nvidia-smi"
    command.write_text(
        "#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not communicate with the driver'\nexit 9\n"
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert accelerators.ask_nvidia() is None
    command.write_text("#!/bin/sh\necho fine $1\n")
    assert accelerators.ask_nvidia("--x") == "fine --x\n"


def test_nothing_but_the_standard_library_is_loaded():
    code = (
        "import importlib.util, sys; before = set(sys.modules);"
        f"spec = importlib.util.spec_from_file_location('a', {accelerators.__file__!r});"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module); module.find();"
        "print({name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'a'}" or done.stdout.strip() == "set()"
