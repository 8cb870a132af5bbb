"""Loggers beside metrics.jsonl: chosen by words, known again after a restart, and never in the run's way."""

import json
import logging
import sys
import threading
import types

import pytest

from semivit_jax import main
from semivit_jax.config import ConfigError, to_dict
from semivit_jax.hosts import extras, stopping
from semivit_jax.hosts.redact import redacted
from semivit_jax.recipes.stored import check_stored
from semivit_jax.training import writers
from semivit_jax.training.loggers import aside
from semivit_jax.training.loggers.spec import Row
from tests.configs import small_config

SERVICES = ("wandb", "mlflow", "trackio")


def log_of(*names, **more):
    return small_config(**{"log.writers": names, **{f"log.{key}": value for key, value in more.items()}}).log


@pytest.fixture
def stage(tmp_path):
    """The folder of a stage of a run."""
    folder = tmp_path / "vit_h" / "semi"
    folder.mkdir(parents=True)
    (folder.parent / "config.json").write_text(json.dumps(to_dict(small_config())))
    return folder


class Memory:
    """A logger that remembers what it is told."""

    def __init__(self, told):
        self.told = told

    def write(self, step, values):
        self.told.append((step, values))

    def flush(self):
        self.told.append("flushed")

    def close(self):
        self.told.append("closed")


@pytest.fixture
def add(monkeypatch):
    """Puts a logger called 'own' into the table, opened by a function of (folder, step)."""
    return lambda opened, **row: monkeypatch.setitem(writers.WRITERS, "own", Row(opened, **row))


def train(folder, *names, steps, restored_step=None):
    opened = writers.open_writers(folder, log_of(*names), active=True, restored_step=restored_step)
    for step in steps:
        opened.write(step, {"train/loss": step / 2})
    opened.flush()
    opened.close()


def steps_in(folder):
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


# ---- the words


def test_a_logger_is_one_line_in_the_table(stage, add):
    told = []
    add(lambda *given: told.append(given) or Memory(told))
    train(stage, "jsonl", steps=[1])
    assert not told
    train(stage, "own", "jsonl", steps=[1, 2], restored_step=0)
    numbers = [(step, {"train/loss": step / 2}) for step in (1, 2)]
    assert told == [(stage, 0), *numbers, "flushed", "closed"]
    assert steps_in(stage) == [1, 2]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("jsonl", "wanb"), "config.log.writers names 'wanb'; legal are jsonl, tensorboard, wandb, mlflow, trackio"),
        (("jsonl", "mlflow", "mlflow"), "config.log.writers names 'mlflow' twice"),
        (("wandb",), "config.log.writers is ('wandb',); 'jsonl' cannot be left out, since runs go on from it"),
        ((), "config.log.writers is (); 'jsonl' cannot be left out"),
    ],
)
def test_words_that_cannot_be_are_refused(names, said):
    with pytest.raises(ConfigError) as error:
        writers.check_words(log_of(*names))
    assert str(error.value).startswith(said)


@pytest.mark.parametrize("name", SERVICES)
def test_a_package_that_is_absent_is_told_with_its_extra(name, monkeypatch):
    monkeypatch.setattr(extras, "installed", lambda extra: False)
    with pytest.raises(ConfigError) as error:
        writers.check_installed(log_of("jsonl", name))
    told = f"config.log.writers names {name!r}; install the extra [{name}]: {extras.install_line(name)}"
    assert str(error.value) == told
    monkeypatch.setattr(extras, "installed", lambda extra: extra == name)
    writers.check_installed(log_of("jsonl", "tensorboard", name))


@pytest.mark.parametrize(
    ("tensorboard", "read"), [(True, ["jsonl", "tensorboard"]), (False, ["jsonl"])], ids=["with", "without"]
)
def test_a_config_of_before_reads_as_the_loggers_of_then(tensorboard, read):
    raw = to_dict(small_config(**{"log.tensorboard": tensorboard}))
    raw["log"] = {key: raw["log"][key] for key in ("every_steps", "tensorboard", "recipe", "origin")}
    assert writers.named(check_stored(raw).log) == read


def test_tensorboard_goes_with_its_own_key_too():
    assert writers.named(log_of("jsonl", "tensorboard", "wandb", tensorboard=False)) == ["jsonl", "wandb"]


# ---- out of the way


@pytest.fixture
def warnings(caplog):
    """Lines that were warned of."""
    return lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def broken(where, told):
    """A logger that fails in one of its calls."""

    def fail(*_):
        raise RuntimeError("no\n quota")

    def opened(*_):
        if where == "open":
            fail()
        found = Memory(told)
        setattr(found, where, fail)
        return found

    return opened


@pytest.mark.parametrize("where", ["open", "write", "flush", "close"])
def test_a_logger_that_fails_is_said_once_and_the_others_go_on(where, stage, add, warnings):
    add(broken(where, []))
    train(stage, "jsonl", "own", steps=range(1, 9))
    failed = "the logger own failed and gets no more numbers until the next start (RuntimeError: no quota)"
    assert warnings() == [f"{failed}; training goes on, and metrics.jsonl has all numbers"]
    assert steps_in(stage) == list(range(1, 9))


def test_a_logger_that_hangs_is_left_behind(stage, add, warnings, monkeypatch):
    monkeypatch.setattr(aside, "WAITING", 3)
    monkeypatch.setattr(aside, "FLUSH_SECONDS", 0.1)
    monkeypatch.setattr(aside, "CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(stopping, "_left_behind", threading.Event())
    released = threading.Event()
    add(lambda *_: released.wait(60))
    train(stage, "jsonl", "own", steps=range(1, 9))
    assert [line.partition(";")[0] for line in warnings()] == [
        "the logger own lags behind",
        "the logger own has not answered for 0 s",
        "the logger own does not end",
    ]
    assert steps_in(stage) == list(range(1, 9))
    assert stopping.waits_for_nobody()  # its library may hold the process at the very end, too
    released.set()


def test_a_logger_that_was_left_behind_does_not_hold_the_process_at_its_end(monkeypatch):
    left = []
    monkeypatch.setattr(stopping, "_left_behind", threading.Event())
    monkeypatch.setattr(stopping, "end_within", lambda seconds, exit_code: left.append(exit_code))
    for expected in ([], [0]):
        with pytest.raises(SystemExit):
            main.leave(0)
        assert left == expected
        stopping.wait_for_nobody()


def test_what_an_error_says_is_cut(stage, add, warnings):
    def opened(*_):
        raise RuntimeError("no " * 500)

    add(opened)
    train(stage, "jsonl", "own", steps=[])
    (line,) = warnings()
    assert len(line) < 400


def test_a_flush_waits_until_a_slow_logger_has_kept_all(stage, add, warnings):
    told, slow = [], threading.Event()

    class Slow(Memory):
        def write(self, step, values):
            slow.wait(0.05)
            super().write(step, values)

    add(lambda *_: Slow(told))
    opened = writers.open_writers(stage, log_of("jsonl", "own"), active=True, restored_step=None)
    for step in (1, 2, 3):
        opened.write(step, {})
    opened.flush()
    assert told == [(1, {}), (2, {}), (3, {}), "flushed"]
    opened.close()
    assert not warnings()


def test_metrics_jsonl_that_cannot_be_written_is_the_runs_failure(stage):
    (stage / "metrics.jsonl").mkdir()
    with pytest.raises(OSError, match="metrics"):
        train(stage, "jsonl", steps=[1])


# ---- services, with modules in their place


class Wandb(types.ModuleType):
    """What is asked of wandb."""

    def __init__(self):
        super().__init__("wandb")
        self.begun, self.told = [], []
        self.Settings = lambda **settings: settings
        self.mode, self.has_account = "online", True
        self.setup = lambda: types.SimpleNamespace(settings=types.SimpleNamespace(mode=self.mode))
        self.login = lambda prompt: self.has_account or prompt

    def init(self, **given):
        self.begun.append(given)
        return types.SimpleNamespace(
            offline=self.mode != "online",
            url="https://wandb.example/run?token=abc",
            define_metric=lambda *_, **__: None,
            log=lambda values: self.told.append((given["id"], values)),
            finish=lambda: self.told.append("finished"),
        )


class Trackio(types.ModuleType):
    """What is asked of trackio."""

    def __init__(self):
        super().__init__("trackio")
        self.begun, self.told = [], []

    def init(self, **given):
        self.begun.append(given)
        return types.SimpleNamespace(
            log=lambda values, step: self.told.append((given["name"], {"step": step, **values})),
            finish=lambda: self.told.append("finished"),
        )


class Mlflow(types.ModuleType):
    """What is asked of mlflow; a client has a run for each number."""

    def __init__(self):
        super().__init__("mlflow")
        self.begun, self.told, self.params = [], [], {}
        self.MlflowClient = lambda: self
        self.entities = types.ModuleType("mlflow.entities")
        self.entities.Metric = lambda key, value, now, step: (step, key, value)
        self.entities.Param = lambda key, value: (key, value)

    def get_experiment_by_name(self, name):
        return None

    def create_experiment(self, name):
        return name

    def create_run(self, experiment, run_name, tags):
        self.begun.append({"project": experiment, "name": run_name, "group": tags["workdir"]})
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=f"run{len(self.begun)}"))

    def log_batch(self, run, metrics=(), params=()):
        assert len(params) <= 100
        self.params |= dict(params)
        if metrics:
            ((step, key, value),) = metrics
            self.told.append((run, {"step": step, key: value}))

    def update_run(self, run, status):
        self.begun.append({"id": run})

    def set_terminated(self, run):
        self.told.append("finished")


@pytest.fixture(params=[Wandb, Mlflow, Trackio], ids=lambda made: made.__name__.lower())
def service(request, monkeypatch):
    for variable in ("WANDB_PROJECT", "MLFLOW_EXPERIMENT_NAME", "TRACKIO_PROJECT"):
        monkeypatch.delenv(variable, raising=False)
    module = request.param()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    if hasattr(module, "entities"):
        monkeypatch.setitem(sys.modules, "mlflow.entities", module.entities)
    return module


def test_a_stage_is_a_run_of_its_service_and_stays_it(service, stage):
    train(stage, "jsonl", service.__name__, steps=[1, 2])
    train(stage, "jsonl", service.__name__, steps=[2, 3], restored_step=1)
    first = service.begun[0]
    assert (first["project"], first["group"]) == ("semivit_jax", str(stage.parent))
    assert first["name"].startswith("vit_h/semi")
    runs = {run for run, _ in filter(lambda told: told != "finished", service.told)}
    assert len(runs) == 1
    assert [told if told == "finished" else told[1] for told in service.told] == [
        {"step": 1, "train/loss": 0.5},
        {"step": 2, "train/loss": 1.0},
        "finished",
        {"step": 2, "train/loss": 1.0},
        {"step": 3, "train/loss": 1.5},
        "finished",
    ]
    other = stage.with_name("finetune")
    other.mkdir()
    train(other, "jsonl", service.__name__, steps=[1])
    assert service.told[-2][0] not in runs


def test_a_service_is_told_every_key_of_the_config(service, stage):
    train(stage, "jsonl", service.__name__, steps=[])
    config = getattr(service, "params", None) or service.begun[0]["config"]
    assert config["semi.confidence_threshold"] in (0.8, "0.8")
    assert config["log.writers"]


def test_hosts_but_the_first_have_no_loggers(service, stage):
    writers.open_writers(stage, log_of("jsonl", service.__name__), active=False, restored_step=None).close()
    assert not service.begun


def test_wandb_asks_nobody_for_a_key(stage, monkeypatch, warnings):
    module = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    module.has_account = False
    train(stage, "jsonl", "wandb", steps=[1])
    (line,) = warnings()
    assert "no account: `wandb login`, or WANDB_API_KEY; without one WANDB_MODE=offline" in line
    module.mode = "offline"
    train(stage, "jsonl", "wandb", steps=[1])
    assert len(module.begun) == len(warnings()) == 1


def test_wandb_tells_where_its_run_is_without_what_opens_it(stage, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "wandb", Wandb())
    with caplog.at_level(logging.INFO, "semivit_jax"):
        train(stage, "jsonl", "wandb", steps=[])
    assert "semi: numbers at https://wandb.example/run" in [record.getMessage() for record in caplog.records]


# ---- nothing secret


def test_a_failure_shows_no_secret(stage, add, warnings, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")

    def opened(*_):
        raise OSError("401 for key 0123456789abcdef at https://me:pass@host.example/api?sig=xyz#part.")

    add(opened)
    train(stage, "jsonl", "own", steps=[])
    (line,) = warnings()
    assert "(OSError: 401 for key *** at https://host.example/api)" in line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:p@db:5432/runs is away", "postgresql://db:5432/runs is away"),
        ("gs://bucket/runs/mine: 403", "gs://bucket/runs/mine: 403"),
        ("see https://a.example/x?X-Goog-Signature=1&b=2, then", "see https://a.example/x then"),
        ("a@b.example and what? more", "a@b.example and what? more"),
    ],
)
def test_addresses_lose_their_user_and_query(text, shown):
    assert redacted(text) == shown
