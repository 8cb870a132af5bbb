"""`semivit plan` as a user calls it; on this machine's libtpu in the slow set."""

import importlib.util
import json

import pytest

from benchmarks import plan_table
from semivit_jax.main import main
from semivit_jax.preflight import show, stages, topology

# ml-collections loads config files in a way that Python 3.12 drops; nothing of ours can change that.
pytestmark = pytest.mark.filterwarnings("ignore:the load_module.. method is deprecated:DeprecationWarning")

SMALL = (
    "--config=configs/digits.py",
    "--config.model.variant=vit_s16",
    "--config.data.image_size=32",
    "--config.model.dtype=auto",
)


def run(*flags):
    return main(["semivit", "plan", *flags])


def written(tmp_path, *flags):
    out = tmp_path / "plan.json"
    assert run(*flags, f"--out={out}") == 0
    return json.loads(out.read_text())["stages"]


def test_a_gpu_host_gets_the_analytic_part_and_is_told_so(tmp_path, capsys):
    (row,) = written(tmp_path, *SMALL, "--topology=gpu:8xH100", "--stage=semi")
    assert not row["compiled"]
    assert "GPU" in row["note"]
    assert row["memory"]["source"] == row["sent_bytes_source"] == "estimate"
    assert row["fits"]
    shown = capsys.readouterr().out
    for words in ("analytic only", "ema_params", "of 74.51 GiB: fits (estimate)", "images/s", "duration"):
        assert words in shown


def test_what_leaves_a_slice_does_not_grow_with_it_and_is_named(tmp_path, capsys):
    """A ring of 4 slices sends 2 * 3 / 4 of the gradients from each, in bfloat16, however large they are."""
    flags = (*SMALL, "--stage=finetune", "--images=100000", "--labeled=100000", "--slices=4", "--nocompile")
    (small,) = written(tmp_path, *flags, "--topology=v5e:2x2", "--config.mesh.fsdp=4")
    shown = capsys.readouterr().out
    (large,) = written(tmp_path, *flags, "--topology=v5e:4x4")
    assert (small["slices"], small["devices"], large["devices"]) == (4, 16, 64)
    assert small["leaving_bytes"] == large["leaving_bytes"] == large["memory"]["params"] / 2 * 2 * 3 / 4
    for words in ("on 4 x v5e:2x2", "between slices", "leave each slice per step", "(estimate, at least:"):
        assert words in shown
    (one,) = written(tmp_path, *flags, "--topology=v5e:4x4", "--slices=1")
    assert (one["slices"], one["leaving_bytes"]) == (1, 0)


def test_hosts_with_gpus_may_share_a_copy_of_the_weights_which_then_travels(tmp_path):
    flags = (*SMALL, "--stage=finetune", "--images=100000", "--labeled=100000", "--topology=gpu:4xH100", "--slices=4")
    rows = [written(tmp_path, *flags, f"--config.mesh.fsdp={fsdp}")[0] for fsdp in (1, 4, 8, 16)]
    leaving = [row["leaving_bytes"] for row in rows]
    assert leaving[0] == leaving[1] < leaving[2] < leaving[3]


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (show.gib(9.3 * 2**30), "9.30 GiB"),
        (show.gib(0.1 * 2**30), "0.10 GiB"),
        (show.gib(1.5 * 2**20), "1.5 MiB"),
        (show.mib(1593 * 2**20), "1,593.0 MiB"),
        (show.mib(2048), "2.0 KiB"),
        (show.gib(0), "0 bytes"),
        (show.ms(0.0126), "12.6 ms"),
        (show.ms(1.5e-6), "1.5 µs"),
        (show.duration(1234.56), "1,234.6 hours"),
        (show.duration(0.44), "26 minutes"),
        (show.duration(7.1e-7), "0.0026 seconds"),
    ],
)
def test_small_numbers_have_small_units(shown, words):
    assert shown == words


def test_without_libtpu_the_extra_that_brings_it_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(topology, "libtpu_installed", lambda: False)
    (row,) = written(tmp_path, *SMALL, "--topology=v5e:4x4", "--stage=semi")
    assert not row["compiled"]
    shown = " ".join(capsys.readouterr().out.split())
    assert "libtpu is not installed; pip install -c requirements/constraints.txt '.[plan]' brings it" in shown
    assert "Shape not checked" in row["note"]


def test_all_stages_of_the_config_by_default(tmp_path):
    rows = written(tmp_path, *SMALL, "--topology=gpu:4xA100")
    assert [r["stage"] for r in rows] == ["mae", "finetune", "semi"]
    assert rows[0]["memory"]["ema_params"] == 0 < rows[2]["memory"]["ema_params"]


def test_what_does_not_fit_is_answered_with_a_change_that_does(tmp_path, capsys):
    recipe = "--config=imagenet_semi:model=vit_h14,labels=1pct"
    (row,) = written(tmp_path, recipe, "--topology=v5e:4x4", "--stage=semi", "--nocompile")
    assert not row["fits"]
    change = row["change"]
    assert change["memory"]["total"] < row["memory"]["chip"] < row["memory"]["total"]
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in change["flags"])
    (changed,) = written(tmp_path, recipe, "--topology=v5e:4x4", "--stage=semi", "--nocompile", *change["flags"])
    assert changed["fits"]
    assert changed["memory"] == change["memory"]


def test_a_batch_too_small_for_the_slice_is_raised_and_said(tmp_path):
    (row,) = written(tmp_path, *SMALL, "--topology=v5e:8x8", "--stage=semi", "--nocompile", "--images=100000")
    assert row["batch_size"] == 128
    assert "128 labeled images instead of 40" in row["deviations"][0]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((), "--config=FILE and --topology=NAME must be given"),
        ((SMALL[0],), "plan: --topology=NAME must be given"),
        ((SMALL[0], "--topology=v7:4x4"), "unknown TPU 'v7'"),
        ((SMALL[0], "--topology=v5e:4x4", "--stage=dino"), "the config's stages are mae, finetune, semi"),
        ((SMALL[0], "--topology=gpu:8xH100", "--config.mesh.fsdp=3"), "fsdp is 3"),
        ((SMALL[0], "--topology=v5e:4x4", "--slices=0"), "--slices=0; legal is a whole number from 1"),
        (
            (SMALL[0], "--topology=v5e:4x4", "--slices=2", "--config.mesh.fsdp=32"),
            "fsdp is 32; on 32 devices in 2 slices, legal are [1, 2, 4, 8, 16]",
        ),
        ((SMALL[0], "--topology=v5e:4x4", "--config.semi.batch_size=ten"), "'ten' must be a whole number"),
        ((SMALL[0], "--topology=v5e:4x4", "--config.data.photo_views.flip_prob=1"), "the config has no"),
        (("--config=nowhere", "--topology=v5e:4x4"), "there is no config 'nowhere'"),
    ],
)
def test_bad_usage_is_named(flags, words, capsys):
    assert run(*flags) == 2
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("error", [AttributeError("x"), ValueError("x"), OSError("x")], ids=repr)
def test_an_error_of_the_program_is_not_called_bad_usage(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(stages, "plan_one", fail)
    with pytest.raises(type(error)):
        run(*SMALL, "--topology=gpu:8xH100")


def test_the_table_marks_rows_that_were_not_compiled(tmp_path, monkeypatch):
    case = plan_table.Case("vit_b16", "finetune", "v5e:4x4")
    monkeypatch.setattr(plan_table, "ALL", (case,))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{plan_table.BEGIN}\nold\n{plan_table.END}\nafter\n")
    plan_table.write_table(page, tmp_path / "none.jsonl")
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    (row,) = [line for line in text.splitlines() if line.startswith("| vit_b16")]
    assert row.endswith("| not run |")
    assert row.count("|") == plan_table.HEAD.count("|")


def test_the_table_goes_on_where_it_stopped(tmp_path, monkeypatch):
    done, missing = plan_table.FIRST[:2]
    results = tmp_path / "plan.jsonl"
    made = []

    def plan(case, *, compiling, note):
        made.append(case)
        return answers[case]

    answers = {c: plan_table.plan(c, compiling=False, note="a test") for c in (done, missing)}
    monkeypatch.setattr(plan_table, "ALL", (done, missing))
    monkeypatch.setattr(plan_table, "plan", plan)
    results.write_text(json.dumps(plan_table.to_dict(answers[done])) + "\n")
    plan_table.compile_missing(results, minutes=1.0)
    assert made == [missing]
    assert list(plan_table.read_rows(results)) == [done, missing]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install .[plan]")
def test_a_step_is_compiled_for_a_slice_without_a_tpu(tmp_path):
    small = (*SMALL, "--config.model.variant=vit_test", "--config.mesh.fsdp=4")
    (row,) = written(tmp_path, *small, "--topology=v5e:2x4", "--stage=finetune")
    assert row["compiled"]
    assert row["fits"]
    state = sum(row["memory"][k] for k in ("params", "ema_params", "optimizer"))
    assert state < row["memory"]["total"] < row["memory"]["chip"]
    assert {"all-reduce", "all-gather"} <= set(row["collectives"])
    assert row["versions"]["libtpu"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install .[plan]")
def test_sums_alone_travel_between_compiled_slices(tmp_path):
    """At least the bytes that are estimated: a ring of slices. The compiler's own way sends 1.37 times as many here."""
    small = (*SMALL, "--config.mesh.fsdp=4", "--images=100000", "--labeled=100000")
    (row,) = written(tmp_path, *small, "--topology=v5e:2x4", "--slices=2", "--stage=finetune")
    (guess,) = written(tmp_path, *small, "--topology=v5e:2x4", "--slices=2", "--stage=finetune", "--nocompile")
    assert (row["compiled"], row["devices"]) == (True, 16)
    assert [kind for kind, total in row["collectives"].items() if total["leaving_bytes"]] == ["all-reduce"]
    assert "all-gather" in row["collectives"]
    assert guess["leaving_bytes"] <= row["leaving_bytes"] < 1.4 * guess["leaving_bytes"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: pip install .[plan]")
def test_from_8_to_256_to_1024_chips_nothing_grows_on_a_chip(tmp_path):
    """Equal images per chip: activations stay, bytes sent stay below what an endless ring would send."""
    rows = []
    for name, chips in (("v5p:2x2x2", 8), ("v5p:4x8x8", 256), ("v5p:8x8x16", 1024)):
        flags = (f"--config.finetune.batch_size={4 * chips}", f"--topology={name}", "--stage=finetune")
        (row,) = written(
            tmp_path, *SMALL, "--config.model.variant=vit_test", "--labeled=100000", "--images=200000", *flags
        )
        assert (row["devices"], row["images_per_device"]) == (chips, 4)
        rows.append(row)
    activations = [row["memory"]["activations"] for row in rows]
    assert max(activations) < 1.05 * min(activations)
    sent = [row["sent_bytes"] for row in rows]
    assert sent == sorted(sent)
    assert sent[-1] < sent[0] * 8 / 7 * 1.01
