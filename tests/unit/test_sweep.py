"""A grid becomes runs with folders of their own; they run, fail, stop and go on apart from each other."""

import csv
import json
import signal
import subprocess
import sys
import threading
import time

import jax
import pytest

from semivit_jax import files
from semivit_jax.cli import grid, members, sweep, train
from semivit_jax.config import to_dict
from semivit_jax.hosts.accelerators import Machine, Nvidia
from semivit_jax.hosts.stopping import StopRequest

pytestmark = pytest.mark.filterwarnings(
    "ignore:the load_module:DeprecationWarning"
)  # how ml_collections reads a config

TWO = ["--config=digits", "--set", "semi.base_lr=1e-3,2e-3"]
FOUR = [*TWO, "--set=seed=0,1"]


def members_of(*arguments, root="runs"):
    given = sweep.read_flags(sweep._parser(), [*arguments, f"--workdir={root}"], required=())
    return grid.members(given.config, grid.read_axes(given.flags.set, given.config), files.path(root))


def refused(capsys, *arguments, root):
    """What a command line is refused with."""
    assert sweep.sweep([*arguments, f"--workdir={root}"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("semivit sweep: ")
    return said


# ---- the grid


@pytest.mark.parametrize(
    ("text", "values"),
    [("1", ["1"]), ("1e-3,2e-3", ["1e-3", "2e-3"]), ("(0.1,0.2),(1,2)", ["(0.1,0.2)", "(1,2)"]),
     ("('a,b)',),('c',)", ["('a,b)',)", "('c',)"]), ("'a,b', \"c,d\"", ["'a,b'", '"c,d"'])],
)  # fmt: skip
def test_commas_in_brackets_and_quotation_marks_divide_nothing(text, values):
    assert grid.divided(text) == values


@pytest.mark.parametrize("text", ["(1,2", "1)", "'a", "(1]"])
def test_what_is_not_closed_is_refused(text):
    with pytest.raises(ValueError, match="clos"):
        grid.divided(text)


def test_members_are_all_combinations_the_last_key_first():
    found = members_of(*FOUR, "--config.semi.epochs=30.0")
    assert [m.name for m in found] == [
        "0_base_lr=0.001_seed=0", "1_base_lr=0.001_seed=1", "2_base_lr=0.002_seed=0", "3_base_lr=0.002_seed=1"
    ]  # fmt: skip
    assert [(m.config.stage("semi").base_lr, m.config.seed) for m in found] == [
        (1e-3, 0), (1e-3, 1), (2e-3, 0), (2e-3, 1)
    ]  # fmt: skip
    assert {m.config.stage("semi").epochs for m in found} == {30.0}
    assert found[3].values == {"semi.base_lr": 2e-3, "seed": 1}


def test_names_can_be_read_and_are_safe():
    shared = members_of("--config=digits", "--set=semi.base_lr=1e-3", "--set=finetune.base_lr=1e-5,0.00002")
    assert [m.name for m in shared] == [
        "0_semi.base_lr=0.001_finetune.base_lr=1e-05", "1_semi.base_lr=0.001_finetune.base_lr=2e-05"
    ]  # fmt: skip
    tuples = members_of("--config=digits", "--set", "stages=('finetune', 'semi'),('mae',)")
    assert [m.name for m in tuples] == ["0_stages=-finetune-semi", "1_stages=-mae"]
    assert [m.config.stages for m in tuples] == [("finetune", "semi"), ("mae",)]
    texts = members_of("--config=digits", "--set", "log.recipe='a, b',\"c\",''")
    assert [m.config.log.recipe for m in texts] == ["a, b", "c", ""]
    assert [m.name for m in texts] == ["0_recipe=a-b", "1_recipe=c", "2_recipe="]
    many = members_of("--config=digits", f"--set=seed={','.join(map(str, range(11)))}")
    assert [many[3].name, many[10].name] == ["03_seed=3", "10_seed=10"]
    assert len(members_of("--config=digits", f"--set=log.recipe={'x' * 500}")[0].name) < 130


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set=semi.base_lrr=1"], "unknown key config.semi.base_lrr; did you mean config.semi.base_lr?"),
        (["--set=seed=0,x"], "'x' must be a whole number"),
        (["--set=semi.base_lr=-1"], "config.semi.base_lr is -1.0; it must be at least 0"),
        (["--set=seed=0", "--set=seed=1"], "--set seed is given twice; put all its values behind one"),
        (["--set=seed=0,1", "--config.seed=3"], "seed has values by --set and one by --config.seed"),
        (["--set=semi.base_lr=1e-3,0.001"], "members 0 and 1 are the same: a value of --set is there twice"),
        (["--set=seed"], "--set seed: legal is KEY=VALUE,VALUE"),
        (["--set=seed=0,,1"], "--set seed=0,,1: a value is empty"),
        (["--set=stages=finetune,semi"], "--set stages: finetune is no tuple; each value is one in brackets"),
        (["--set=stages=['mae'],['semi']"], "--set stages: ['mae'] is no tuple"),
        (["--set=data.mean=(0.5,0.5"], "( is not closed"),
        (["--set=data.mean=(1.0,1.0),(0.5,0.5,0.5)"], "config.data.mean"),
        ([], "--set=KEY=VALUE,VALUE must be given"),
        (["--set=seed=0,1", "--member=2"], "--member=2; legal are 0 to 1"),
        (["--set=seed=0,1", "--member=0", "--list"], "--list and --member exclude each other"),
        (["--set=seed=0,1", "--jobs=0"], "0 is no number of members"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_in_a_line(arguments, told, tmp_path, capsys):
    said = refused(capsys, "--config=digits", *arguments, root=tmp_path / "runs")
    assert told in said
    assert said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


# ---- the whole command, with members that take no time


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    """Members that take no time need not be waited for."""
    monkeypatch.setattr(members, "_LOOK_SECONDS", 0.01)


def stand_in(root, fate):
    """Starts a script for a member: `fate(number)` gives its exit code, and 0 leaves a finished run behind."""

    def start(member, place):
        folder = root / member.name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(to_dict(member.config)))
        code = fate(member.number)
        if not code:
            semi = {"acc1": 0.5 + member.number / 100, "ema_acc1": 0.6}
            (folder / "summary.json").write_text(json.dumps(
                {"stages": {"semi": semi}, "seconds": {"total": 7.0}, "goodput": {"share": 0.25}}))  # fmt: skip
            (folder / "DONE").touch()
        return subprocess.Popen([sys.executable, "-S", "-c", f"raise SystemExit({code})"], text=True)

    return start


@pytest.fixture
def swept(tmp_path, monkeypatch, capsys):
    """Sweeps in tmp_path/runs with that fate of the members; returns the exit code, who ran, and what was said."""

    def go(fate, *arguments):
        ran = []
        start = stand_in(tmp_path / "runs", lambda number: ran.append(number) or fate(number))
        monkeypatch.setattr(members, "starting", lambda root, places: start)
        monkeypatch.setattr(jax, "process_index", lambda: pytest.fail("a device was taken, which members need"))
        code = sweep.sweep([*arguments, f"--workdir={tmp_path / 'runs'}"])
        return code, ran, capsys.readouterr().out

    return go


def table(tmp_path):
    with open(tmp_path / "runs" / "sweep.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_member_that_fails_is_told_and_the_others_go_on(swept, tmp_path):
    code, ran, said = swept(lambda number: 3 if number == 1 else 0, *FOUR)
    assert (code, ran) == (1, [0, 1, 2, 3])
    assert "member 1: 1_base_lr=0.001_seed=1 ended with exit code 3; the others go on" in said
    assert "begun, exit code 3" in said
    rows = table(tmp_path)
    assert [row["state"] for row in rows] == ["finished", "begun", "finished", "finished"]
    assert rows[1]["exit_code"] == "3"
    assert rows[1]["semi/acc1"] == ""
    assert rows[2] == {"member": "2", "folder": "2_base_lr=0.002_seed=0", "semi.base_lr": "0.002", "seed": "0",
                       "state": "finished", "exit_code": "0", "semi/acc1": "0.52", "semi/ema_acc1": "0.6",
                       "seconds": "7.0", "goodput": "0.25"}  # fmt: skip


def test_started_again_finished_members_are_passed_over(swept, tmp_path):
    assert swept(lambda number: 75 if number == 2 else 0, *FOUR)[0] == 75
    code, ran, said = swept(lambda number: 0, *FOUR)
    assert (code, ran) == (0, [2])
    code, ran, said = swept(lambda number: 1, *FOUR)
    assert (code, ran) == (0, [])
    assert "Semi-ViT, student %" in said
    assert "53.0" in said
    assert {row["state"] for row in table(tmp_path)} == {"finished"}


def test_the_members_are_listed_and_nothing_is_written(swept, tmp_path):
    code, ran, said = swept(lambda number: 0, *FOUR, "--list")
    assert (code, ran) == (0, [])
    assert "3_base_lr=0.002_seed=1" in said
    assert not (tmp_path / "runs").exists()
    swept(lambda number: 1 if number == 1 else 0, *FOUR)
    (tmp_path / "runs" / "sweep.csv").unlink()
    said = swept(lambda number: 0, *FOUR, "--list")[2]
    assert said.count("finished") == 3
    assert said.count("begun") == 1
    assert not (tmp_path / "runs" / "sweep.csv").exists()


def test_the_folder_of_another_sweep_or_run_is_refused(swept, tmp_path, capsys):
    swept(lambda number: 0, *TWO)
    root = tmp_path / "runs"
    assert (
        swept(lambda number: 0, "--config=digits", "--set=semi.base_lr=0.001,0.0020")[0] == 0
    )  # the same in other words
    said = refused(capsys, *FOUR, root=root)
    assert "holds another sweep: --set semi.base_lr=0.001,0.002, not --set semi.base_lr=0.001,0.002 --set seed" in said
    assert "semi.epochs" in refused(capsys, *TWO, "--config.semi.epochs=30.0", root=root)
    assert "holds a run" in refused(capsys, *TWO, root=root / "0_base_lr=0.001")


def test_one_member_runs_as_train_would(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(train, "train", lambda argv: asked.append(argv) or 75)
    root = tmp_path / "runs"
    assert sweep.sweep([*FOUR, "--config.semi.epochs=30.0", f"--workdir={root}", "--member=3"]) == 75
    (recipe, *rest), = asked  # fmt: skip
    assert recipe.endswith("digits.py")
    assert rest == ["--config.semi.epochs=30.0", "--config.semi.base_lr=2e-3", "--config.seed=1",
                    f"--workdir={root}/3_base_lr=0.002_seed=1"]  # fmt: skip


# ---- processes

WAITS = """
import signal, sys, time
def leave(signum, frame):
    open(sys.argv[1], "a").write(f"saved {signum}\\n")
    sys.exit(130 if signum == signal.SIGINT else 75)
signal.signal(signal.SIGINT, leave); signal.signal(signal.SIGTERM, leave)
open(sys.argv[1], "a").write("began\\n")
time.sleep(60)
"""


@pytest.mark.parametrize(("code", "signum"), [(130, signal.SIGINT), (75, signal.SIGTERM)])
def test_told_to_stop_it_lets_those_that_run_save_and_begins_no_other(code, signum, tmp_path):
    stop, started = StopRequest(), []

    def start(member, place):
        started.append(place)
        path = tmp_path / str(member.number)
        return subprocess.Popen([sys.executable, "-S", "-c", WAITS, path], text=True, start_new_session=True)

    def stop_soon():
        while not all((tmp_path / str(n)).exists() and (tmp_path / str(n)).read_text() for n in (0, 1)):
            time.sleep(0.01)
        stop.exit_code = code

    threading.Thread(target=stop_soon, daemon=True).start()
    assert members.run(members_of(*FOUR), start, jobs=2, stop=stop) == {0: code, 1: code}
    assert started == [0, 1]
    for number in ("0", "1"):
        assert (tmp_path / number).read_text() == f"began\nsaved {signum.value}\n"


def test_so_many_run_at_a_time_each_in_a_place_of_its_own():
    running, seen = {}, []

    def start(member, place):
        assert place not in {p for p, process in running.items() if process.poll() is None}
        running[place] = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(0.2)"], text=True)
        seen.append(sum(process.poll() is None for process in running.values()))
        return running[place]

    assert members.run(members_of(*FOUR), start, jobs=2, stop=StopRequest()) == dict.fromkeys(range(4), 0)
    assert max(seen) == 2


def test_a_second_ctrl_c_leaves_none_behind():
    begun = []

    def start(member, place):
        if begun:
            raise SystemExit(130)  # as the handler does, in the midst of this
        begun.append(subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"], text=True))
        return begun[0]

    with pytest.raises(SystemExit):
        members.run(members_of(*FOUR), start, jobs=2, stop=StopRequest())
    assert begun[0].wait(10) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("codes", "code"), [({}, 0), ({0: 0, 1: 0}, 0), ({0: 0, 1: 75}, 75), ({0: 75, 1: 1}, 1), ({0: -9}, 1)]
)
def test_the_exit_code_tells_whether_all_are_finished(codes, code):
    assert members.exit_code(codes) == code


def test_lines_of_several_stand_behind_their_number(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(members, "_TRAIN", (sys.executable, "-S", "-c", "import sys; print(sys.argv[-1])"))
    start = members.starting(files.path(tmp_path), [{}, {}])
    assert members.run(members_of(*TWO), start, jobs=2, stop=StopRequest()) == {0: 0, 1: 0}
    limit, said = time.monotonic() + 10, ""
    while said.count("workdir") < 2 and time.monotonic() < limit:
        said += capfd.readouterr().out
    assert f"[1] --workdir={tmp_path}/1_base_lr=0.002" in said


def found(gpus, tpu=""):
    return lambda: Machine(Nvidia(("L4",) * gpus, "580.1", (13, 0), (8, 9)) if gpus else None, tpu)


def test_members_share_the_gpus():
    assert members.places(1, {}, lambda: pytest.fail("asked")) == [{}]
    assert members.places(2, {}, found(4)) == [{"CUDA_VISIBLE_DEVICES": "0,1"}, {"CUDA_VISIBLE_DEVICES": "2,3"}]
    assert members.places(2, {"CUDA_VISIBLE_DEVICES": "5,7"}, found(8)) == [
        {"CUDA_VISIBLE_DEVICES": "5"}, {"CUDA_VISIBLE_DEVICES": "7"}
    ]  # fmt: skip
    assert members.places(3, {}, found(0)) == [{}, {}, {}]
    assert members.places(3, {"JAX_PLATFORMS": "cpu"}, found(8)) == [{}, {}, {}]
    with pytest.raises(members.flags.Error, match="8 GPUs cannot be shared evenly; legal are 1, 2, 4, 8"):
        members.places(3, {}, found(8))
    with pytest.raises(members.flags.Error, match="legal is 1"):
        members.places(2, {}, found(0, tpu="/dev/accel0"))


def test_the_process_is_started_with_the_members_arguments(tmp_path, monkeypatch):
    """As `semivit train`, away from the terminal's own Ctrl-C."""
    code = "import os, sys, json; json.dump([sys.argv[1:], os.getsid(0) == os.getpid()], open('said', 'w'))"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(members, "_TRAIN", (sys.executable, "-S", "-c", code))
    assert members.starting(files.path("runs"), [{}])(members_of(*TWO)[1], 0).wait() == 0
    arguments, own_session = json.loads((tmp_path / "said").read_text())
    assert arguments[1:] == ["--config.semi.base_lr=2e-3", "--workdir=runs/1_base_lr=0.002"]
    assert own_session
