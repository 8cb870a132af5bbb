"""Several processes on one host: they find each other, end together, and start again after a preemption."""

import signal
import socket
import sys
import textwrap
import time

import pytest

from tests.e2e.launching import Stage

TWO = ("--processes=2", "--cpu-devices=2", "--config=digits", "--workdir=run")


@pytest.fixture
def stage(tmp_path) -> Stage:
    (tmp_path / "run").mkdir()
    return Stage(folder=tmp_path)


def test_each_process_gets_its_place_and_the_run_goes_on_until_done(stage):
    stage.stand_in(
        "semivit",
        'echo "$SEMIVIT_COORDINATOR $SEMIVIT_NUM_PROCESSES $SEMIVIT_PROCESS_ID $JAX_PLATFORMS $XLA_FLAGS"\n'
        "((call > 4)) || exit 75\n"
        "touch run/DONE",
    )
    code, output = stage.run("local.sh", *TWO, "--port=9000", "--", "--config.seed=1")
    assert code == 0, output
    assert output.count("preempted; starting again") == 2
    assert stage.calls("semivit") == 6 * [["semivit", "train", "--config=digits", "--workdir=run", "--config.seed=1"]]
    place = "127.0.0.1:9000 2 {} cpu --xla_force_host_platform_device_count=2"
    assert output.splitlines().count(place.format(0)) == 3
    assert output.splitlines().count("[1] " + place.format(1)) == 3


def test_gpus_are_divided_evenly(stage):
    stage.stand_in("semivit", 'echo "$SEMIVIT_PROCESS_ID has $CUDA_VISIBLE_DEVICES"; touch run/DONE')
    code, output = stage.run("local.sh", "--processes=2", "--gpus=4", "--config=digits", "--workdir=run")
    assert code == 0, output
    assert {"0 has 0,1", "[1] 1 has 2,3"} <= set(output.splitlines())


def test_ending_with_0_without_done_is_an_error(stage):
    stage.stand_in("semivit", "exit 0")
    code, output = stage.run("local.sh", *TWO)
    assert code == 1
    assert "run/DONE does not exist" in output


@pytest.mark.parametrize("code", [1, 2, 130])
def test_when_one_process_fails_the_other_is_ended_and_nothing_starts_again(stage, code):
    stage.stand_in("semivit", f"((SEMIVIT_PROCESS_ID == 0)) && exit {code}; exec sleep 40")
    started = time.monotonic()
    ended, output = stage.run("local.sh", *TWO)
    assert ended == code, output
    assert output.count("SEMIVIT_PROCESS_ID=1 ") == 1
    assert time.monotonic() - started < 9, "the other process was to end on SIGTERM"


def test_a_killed_process_is_a_crash_and_crashes_are_counted(stage):
    stage.stand_in("semivit", "((SEMIVIT_PROCESS_ID == 1)) && kill -KILL $$; exec sleep 40")
    code, output = stage.run("local.sh", *TWO, "--max-crashes=2")
    assert code == 1, output
    assert output.count("SEMIVIT_PROCESS_ID=1 ") == 3
    assert "crash 2 of at most 2 (exit code 137); starting again" in output
    assert "crash 3 (exit code 137): giving up" in output


def test_a_preempted_run_does_not_wait_for_ever_for_a_process_that_stays(stage):
    stage.stand_in(
        "semivit",
        "((call < 3)) || { touch run/DONE; exit 0; }\n"
        "((SEMIVIT_PROCESS_ID == 0)) && exit 75\n"
        "trap '' TERM; while true; do sleep 0.2; done",
    )
    code, output = stage.run("local.sh", *TWO, "--grace-seconds=1")
    assert code == 0, output
    assert output.count("preempted; starting again") == 1
    assert len(stage.calls("semivit")) == 4


@pytest.mark.usefixtures("signals_heard")
@pytest.mark.parametrize(("signal_number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_a_signal_to_the_launcher_lets_the_processes_save_and_ends_it(stage, signal_number, code):
    stage.stand_in(
        "semivit",
        "trap 'sleep 0.2; touch saved_$SEMIVIT_PROCESS_ID; exit 75' TERM\n"
        "touch started_$SEMIVIT_PROCESS_ID\n"
        "for _ in {1..600}; do sleep 0.1; done",  # it ends even where the test fails
    )
    with stage.start("local.sh", *TWO) as launcher:
        try:
            deadline = time.monotonic() + 20
            while len(list(stage.folder.glob("started_*"))) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            launcher.send_signal(signal_number)
            output, _ = launcher.communicate(timeout=20)
        finally:
            launcher.kill()
    assert launcher.returncode == code, output
    assert len(list(stage.folder.glob("saved_*"))) == 2
    assert len(stage.calls("semivit")) == 2


def test_launched_processes_find_each_other_and_compare_facts(stage):
    program = textwrap.dedent(
        f"""
        import sys
        sys.path[:0] = {sys.path!r}
        import jax
        from semivit_jax.hosts.agreement import same_on_every_host
        from semivit_jax.hosts.cluster import Cluster, start

        member = start(Cluster("", -1, -1, coordinator_timeout_seconds=30.0))
        same_on_every_host({{"arguments": " ".join(sys.argv[1:])}})
        place = f"process {{member.process_id}} of {{member.num_processes}} with {{jax.device_count()}}"
        sys.stdout.write(place + "\\n")  # in one piece: the other process writes to the same place
        if member.process_id == 0:
            open("run/DONE", "w").close()
        """
    )
    (stage.folder / "train.py").write_text(program)
    stage.stand_in("semivit", f'exec "{sys.executable}" train.py "$@"')
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    code, output = stage.run("local.sh", *TWO, f"--port={port}")
    assert code == 0, output
    assert {"process 0 of 2 with 4", "[1] process 1 of 2 with 4"} <= set(output.splitlines())
