"""Breaks where the package meets people and other programs: configs, weights in and out, predictions, commands."""

from tests.breaks.broken import Break

CONFIG = ("tests/unit/test_check.py",)
WEIGHTS_IN = ("tests/unit/test_weight_import.py",)
WEIGHTS_OUT = ("tests/unit/test_weight_export.py",)

BREAKS = {
    # Configs and recipes
    "unknown keys are ignored": Break("recipes/check.py", "        if key not in known:", "        if False:", CONFIG),
    "every key may change in a workdir": Break(
        "recipes/keys.py", "return unmarked(config, RUNTIME)", "return {}", CONFIG
    ),
    "mixing groups may be odd": Break(
        "recipes/planning.py",
        "group % g == 0 and g % 2 == 0",
        "group % g == 0",
        ("tests/unit/test_plan.py", "tests/unit/test_fit_batch.py"),
    ),
    "a changed recipe still calls itself published": Break(
        "recipes/label.py", 'raw.log.origin = "ours"', "pass", ("tests/unit/test_overrides.py",)
    ),
    "an old workdir gets another epsilon": Break(
        "recipes/stored.py", '("layer_norm_eps") or 1e-6', '("layer_norm_eps") or 1e-5', ("tests/unit/test_workdir.py",)
    ),
    # Weights in and out
    "convolutions are transposed the wrong way": Break(
        "weights/layout.py",
        "tensor.transpose(2, 3, 1, 0)",
        "tensor.transpose(3, 2, 1, 0)",
        ("tests/unit/test_weight_layout.py",),
    ),
    "tensors without a place are passed over": Break(
        "weights/fill.py", "    if homeless:", "    if False:", WEIGHTS_IN
    ),
    "layer scale is folded into the inputs": Break(
        "weights/fold.py", "gamma.reshape(-1, *(1,) * (tensor.ndim - 1))", "gamma", WEIGHTS_IN
    ),
    "what an index lists need not be there": Break(
        "weights/parts.py", "    if not lacking:", "    if True:", ("tests/unit/test_weight_files.py",)
    ),
    "of a tensor in two parts the first is taken": Break(
        "weights/parts.py", "listed.get(name, found[0])", "found[0]", ("tests/unit/test_weight_files.py",)
    ),
    "a part that is missing is left out": Break(
        "weights/locate.py",
        "parts = tuple(index.with_name(part) for part in sorted(set(listed.values())))",
        "parts = tuple(p for p in (index.parent / part for part in sorted(set(listed.values()))) if p.is_file())",
        ("tests/unit/test_weight_files.py",),
    ),
    "a teacher alone keeps its prefix": Break(
        "weights/prefixes.py", "    *PAIR,\n", "", ("tests/unit/test_state_dicts.py", "tests/unit/test_prefixes.py")
    ),
    "towers see as ImageNet's models do": Break(
        "weights/vit_relatives.py", 'if "mean" not in beside.assumed:', "if True:", ("tests/unit/test_towers.py",)
    ),
    "an exported program scales by 256": Break(
        "weights/preprocessing.py", "pixels.astype(jnp.float32) / 255", "pixels.astype(jnp.float32) / 256", WEIGHTS_OUT
    ),
    "an export overwrites a folder": Break(
        "export/__init__.py", "if out.exists() and any(out.iterdir()):", "if False:", WEIGHTS_OUT
    ),
    # Predictions
    "the farthest neighbours vote": Break(
        "training/probes.py",
        "np.argsort(-similarity, axis=1",
        "np.argsort(similarity, axis=1",
        ("tests/serve/test_scores.py",),
    ),
    "params answer where the average should": Break(
        "inference/trained.py",
        "chosen = available[-1] if tree is None",
        "chosen = available[0] if tree is None",
        ("tests/serve/test_predict.py",),
    ),
    "unreadable images vanish from a folder": Break(
        "inference/predict_folder.py",
        """skipped.append(f"{name!r}: {answer}")""",
        "pass",
        ("tests/serve/test_predict.py",),
    ),
    # Labels and reports
    "two pages overwrite each other's labels": Break(
        "labeling/store.py", "if seen != now and now != label:", "if False:", ("tests/labeling/test_store.py",)
    ),
    "a page goes on to show labels that were refused": Break(
        "labeling/store.py",
        "return answers, self._news(version, shown_otherwise=_images_of(refused))",
        "return answers, self._news(version)",
        ("tests/labeling/test_store.py",),
    ),
    "an interval ignores that images are few": Break(
        "report/intervals.py",
        "share * (1 - share) / count + square / (4 * count)",
        "share * (1 - share) / count",
        ("tests/report/test_numbers.py",),
    ),
    "a judge of labels that knows little is believed": Break(
        "report/suspects.py", "return self.right < self.least_right", "return False", ("tests/report/test_numbers.py",)
    ),
    "a threshold is suggested that keeps hardly anything": Break(
        "report/advice.py",
        """found["confidences"][1] * scale""",
        """found["confidences"][2] * scale""",
        ("tests/report/test_numbers.py",),
    ),
    # Commands
    "an error ends with 0": Break(
        "cli/guarded.py",
        "outcome.code = 1",
        "outcome.code = 0",
        ("tests/serve/test_predict.py",),
    ),
    "weights in a recipe leave pre-training out": Break(
        "cli/overrides.py",
        '"init_from" not in overridden or ',
        "",
        ("tests/unit/test_overrides.py", "tests/unit/test_recipes.py"),
    ),
    "an unknown command ends with 0": Break(
        "main.py",
        '{usage()}", file=sys.stderr)\n        return BAD_USAGE',
        '{usage()}", file=sys.stderr)\n        return 0',
        ("tests/unit/test_command_lines.py",),
    ),
    "every host prints": Break(
        "console.py", "    if jax.process_index():\n        return\n", "", ("tests/unit/test_console.py",)
    ),
    "what lasts before its first step is silent": Break(
        "console.py",
        "        with _telling(told):\n            yield count\n",
        "        yield count\n",
        ("tests/unit/test_console.py",),
    ),
    "the numbers of a bar are cut on a narrow terminal": Break(
        "console.py",
        "max_width=max(_LEAST_WIDTH, width)",
        "max_width=200",
        ("tests/unit/test_console.py",),
    ),
    "one image is two": Break("words.py", "number == 1", "number < 1", ("tests/unit/test_words.py",)),
}
