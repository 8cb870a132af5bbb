"""Breaks in what keeps a run going: the loop, checkpoints, hosts and files."""

from tests.breaks.broken import Break

CHECKPOINT = ("tests/unit/test_checkpoint.py",)
MANIFEST = ("tests/unit/test_manifest.py",)
GUARD = ("tests/unit/test_guard.py",)
LOOP = "tests/e2e/test_guard.py::"
LOGS = ("tests/unit/test_writers.py",)
WORKDIR = ("tests/unit/test_workdir.py",)

LEASE = ("tests/unit/test_lease.py",)

BREAKS = {
    # Training
    "a dead holder keeps the workdir": Break(
        "hosts/identity.py",
        "return _started(other.pid) != other.started",
        "return not _started(other.pid)",
        LEASE,
    ),
    "a holder that beats is taken for silent": Break("training/lease.py", "if found != first:", "if False:", LEASE),
    "two starts replace a dead holder": Break(
        "training/lease.py", "with files.one_at_a_time(folder):", "if True:", LEASE
    ),
    "few images are enough for a collapse": Break(
        "training/guard.py",
        "highest_plausible_share(score, images) < config.collapse_accuracy_share * best",
        "score < config.collapse_accuracy_share * best",
        GUARD,
    ),
    "weights that do not fit are noticed when training begins": Break(
        "training/run.py",
        "check_source(run, stage, params[stage])",
        "pass",
        ("tests/e2e/test_before_training.py",),
    ),
    "outputs of a head keep their order": Break(
        "checkpoints/class_rows.py",
        "theirs[..., taken]",
        "theirs[..., : len(taken)]",
        ("tests/serve/test_warm_start.py",),
    ),
    "a run that nohup started ends with its terminal": Break(
        "hosts/stopping.py",
        "if s != signal.SIGHUP or signal.getsignal(s) != signal.SIG_IGN",
        "if True",
        ("tests/unit/test_stopping.py",),
    ),
    "the state is not donated": Break(
        "training/compiled.py",
        "        donate_argnums=0,\n",
        "",
        ("tests/stages/test_lowered.py::test_every_state_buffer_is_donated",),
    ),
    "the layer axis is cut": Break(
        "training/sharding.py",
        "if axis >= first and n % fsdp == 0",
        "if n % fsdp == 0",
        ("tests/unit/test_sharding.py",),
    ),
    "a restart skips a batch": Break(
        "training/setup.py",
        "position=position,",
        "position=position + bool(position),",
        ("tests/e2e/test_storage.py::test_a_run_goes_on_from_the_last_good_checkpoint[none]",),
    ),
    "the step before a checkpoint is not logged": Break(
        "training/loop.py",
        "self._consume(*pending, evaluated_next=evaluate_now)\n",
        "pass\n",
        (LOOP + "test_dropped_updates_are_counted_and_training_goes_on",),
    ),
    "a restart reads skipped batches again": Break(
        "training/rollback.py",
        "position <= int(state.position)",
        "position >= int(state.position)",
        ("tests/unit/test_rollback.py",),
    ),
    "one low evaluation stops a run": Break(
        "training/guard.py", "history.low_evaluations >= 2", "history.low_evaluations >= 1", GUARD
    ),
    "a stage that keeps nothing is healthy": Break(
        "training/guard.py", "if history.most_kept == 0", "if history.most_kept == 1", GUARD
    ),
    "a share of none is told during warm-up": Break(
        "training/effect.py",
        "if health is None or not first < step <= last:",
        "if health is None or step > last:",
        ("tests/unit/test_effect.py",),
    ),
    "classes that chance leaves out are told": Break(
        "training/forgotten.py",
        "highest_plausible_share(a / n, int(n)) <",
        "a / n <",
        ("tests/unit/test_forgotten.py",),
    ),
    "a stretched stage warms up as briefly as before": Break(
        "stages/stage.py",
        "warmup_epochs=section.warmup_epochs * plan.stretch",
        "warmup_epochs=section.warmup_epochs",
        ("tests/unit/test_plan.py",),
    ),
    "the scale of a probe's logits is left out of its head": Break(
        "training/linear_probe.py",
        "kernel[:, known] = weights / std[:, None] / temperature",
        "kernel[:, known] = weights / std[:, None]",
        ("tests/unit/test_linear_probe.py",),
    ),
    "a NaN spoils the means of a line": Break("training/writers.py", "if not np.isfinite(added):", "if False:", LOGS),
    "lines after a restored step stay": Break(
        "training/loggers/json_lines.py", "_up_to(-1 if restored_step is None else restored_step, old)", "old", LOGS
    ),
    # Checkpoints
    "checksums are not compared": Break(
        "checkpoints/manifest.py", "elif not files.matches(there[name], checksum):", "elif False:", MANIFEST
    ),
    "a checkpoint is sealed without the other process": Break(
        "checkpoints/manifest.py", 'len(parts) < int(parts[0].stem.rpartition("-")[2])', "False", MANIFEST
    ),
    "the oldest good checkpoint counts as the newest": Break(
        "checkpoints/reading.py", "for s in reversed(steps(directory)))", "for s in steps(directory))", CHECKPOINT
    ),
    "a stage that lost its checkpoints starts afresh": Break(
        "checkpoints/recovery.py",
        "    if sealed is not None:\n        kept",
        "    if sealed is None:\n        kept",
        CHECKPOINT,
    ),
    "an error of a save is swallowed": Break(
        "checkpoints/saving.py", "self._failure.__cause__ = error", "self._failure = None", CHECKPOINT
    ),
    "one good checkpoint too few is kept": Break(
        "checkpoints/saving.py",
        "sealed_steps(self._directory)[: -self._keep]",
        "sealed_steps(self._directory)[: 1 - self._keep or None]",
        CHECKPOINT,
    ),
    "left-over tensors are passed over in silence": Break(
        "checkpoints/warm_start.py",
        "[n for n in homeless if not",
        "[n for n in homeless if False and not",
        ("tests/unit/test_warm_start.py",),
    ),
    "another experiment goes on in the same folder": Break(
        "checkpoints/workdir.py", "        if different:", "        if False:", WORKDIR
    ),
    # Hosts
    "the majority is the odd one out": Break(
        "hosts/agreement.py",
        "if digest != majority]",
        "if digest == majority]",
        ("tests/unit/test_cluster.py::test_the_minority_is_the_odd_one_out",),
    ),
    "any answer at the coordinator's port will do": Break(
        "hosts/coordinator.py",
        "if answer.recv(len(token)) == token:",
        "if answer.recv(len(token)):",
        ("tests/unit/test_coordinator.py",),
    ),
    "workers of the second slice come first": Break(
        "hosts/environment.py",
        "worker + len(hosts) * slice_id",
        "worker + slice_id",
        ("tests/unit/test_environment.py",),
    ),
    "the first Ctrl-C leaves at once": Break(
        "hosts/stopping.py",
        "if signum == signal.SIGINT == last:",
        "if signum == signal.SIGINT:",
        ("tests/unit/test_stopping.py",),
    ),
    "an interrupted command that compiles is not ended": Break(
        "hosts/stopping.py",
        "        leaving = end_within(LEAVING_SECONDS, exit_code=INTERRUPTED)",
        "        leaving = threading.Timer(LEAVING_SECONDS, print)",
        ("tests/unit/test_stopping.py",),
    ),
    "what is half-written stays when the process is ended": Break(
        "hosts/stopping.py", "for undo in reversed(_undo.copy()):", "for undo in ():", ("tests/unit/test_stopping.py",)
    ),
    "a second Ctrl-C breaks off what the first one undoes": Break(
        "hosts/stopping.py",
        "        signal.signal(signal.SIGINT, _leave_to_thread)\n        raise KeyboardInterrupt",
        "        raise KeyboardInterrupt",
        ("tests/unit/test_stopping.py",),
    ),
    "an import is interrupted by an exception": Break(
        "hosts/stopping.py",
        "    return frame is not None\n",
        "    return False\n",
        ("tests/unit/test_stopping.py",),
    ),
    "workers hear the Ctrl-C of their terminal": Break(
        "data/read_ahead.py",
        "with stopping.left_to_parent():",
        "if True:",
        ("tests/unit/test_pipeline.py::test_workers_change_nothing_and_resume_exactly",),
    ),
    # Files
    "an import is written under the names of a whole one": Break(
        "weights/folder.py",
        "with files.growing(folder / name) as temporary:",
        "for temporary in (folder / name,):",
        ("tests/unit/test_weight_import.py",),
    ),
    "a lease in a bucket is written over whatever is there": Break(
        "files/store.py",
        'options = {} if over is None else {"if_generation_match": over}',
        "options = {}",
        ("tests/bucket/test_places.py",),
    ),
    "a checkpoint is sealed before its lines are in the bucket": Break(
        "checkpoints/saving.py",
        "        self._beside[int(directory.name)]()\n",
        "",
        ("tests/bucket/test_run.py::test_a_checkpoint_is_sealed_once_its_lines_are_in_the_bucket",),
    ),
    "a reader may see half of a JSON file": Break(
        "files/whole.py",
        'temporary = os.fspath(target.with_name(f".{target.name}.{os.getpid()}"))',
        "temporary = os.fspath(target)",
        ("tests/unit/test_files.py",),
    ),
}
