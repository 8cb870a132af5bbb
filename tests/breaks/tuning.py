"""Breaks of what trains a part of a model."""

from tests.breaks.broken import Break

NETWORKS, STEPS, RUNS, KEPT = (
    f"tests/tune/test_{name}.py::test_" for name in ("networks", "steps", "runs", "kept_features")
)
BREAKS = {
    "tune: LoRA is not scaled while it trains": Break(
        "models/lora.py",
        "out + scale * (",
        "out + 1.0 * (",
        (NETWORKS + "two_parts_compute_what_the_whole_model_does",),
    ),
    "tune: LoRA's second factor does not start at zero": Break(
        "models/lora.py",
        "jnp.zeros(",
        "0.01 + jnp.zeros(",
        (NETWORKS + "a_fresh_lora_is_the_frozen_model_bit_for_bit",),
    ),
    "tune: LoRA divides by alpha": Break(
        "models/tuning.py",
        "config.lora_alpha / config.lora_rank",
        "config.lora_rank / config.lora_alpha",
        (NETWORKS + "the_gradient_of_loras_second_factor",),
    ),
    "tune: any rank is taken": Break(
        "models/lora.py", "if rank > most:", "if rank > 2 * most:", (NETWORKS + "a_rank_that_no_matrix_has_is_refused",)
    ),
    "tune: the first masks are those of the last blocks": Break(
        "models/tuning.py",
        "drop_path_masks[-blocks:]",
        "drop_path_masks[:blocks]",
        (NETWORKS + "two_parts_compute_what_the_whole_model_does",),
    ),
    "tune: the last blocks learn as the first ones": Break(
        "models/tuning.py",
        "value[-blocks:] if",
        "value[:blocks] if",
        (STEPS + "the_first_update_is_that_of_all_on_what_is_trained",),
    ),
    "tune: frozen blocks have drop path": Break(
        "models/tuning.py",
        "0 * whole.drop_path_rates[:-blocks]",
        "whole.drop_path_rates[:-blocks]",
        (NETWORKS + "there_is_no_drop_path_where_nothing_is_trained",),
    ),
    "tune: LoRA is merged while it trains": Break(
        "models/tuning.py",
        "logits = lora.computing(whole.logits, config.lora_alpha / config.lora_rank)",
        "logits = lambda parts, images, masks: whole.logits(parting.whole(*parts), images, masks)",
        (STEPS + "only_what_is_trained_has_a_gradient",),
    ),
    "tune: what is frozen drifts": Break(
        "stages/state.py",
        "position=state.position + 1, frozen=state.frozen",
        "position=state.position + 1, frozen=jax.tree.map(lambda x: x * 1.0001, state.frozen)",
        (STEPS + "what_is_frozen_stays_and_has_no_moments_and_no_average",),
    ),
    "tune: the whole model has moments": Break(
        "stages/state.py",
        "opt_state=optimizer.init(params)",
        "opt_state=optimizer.init(params if frozen is None else {**frozen, **params})",
        (STEPS + "what_is_frozen_stays_and_has_no_moments_and_no_average",),
    ),
    "tune: the average is not counted in what is saved": Break(
        "stages/state.py",
        "copies = 3 + (state.ema_params is not None)",
        "copies = 3",
        (STEPS + "a_run_says_what_it_saves",),
    ),
    "tune: cut blocks are joined upside down": Break(
        "models/tuning.py",
        "jnp.concatenate([lower[path], upper[path]])",
        "jnp.concatenate([upper[path], lower[path]])",
        (NETWORKS + "what_is_trained_and_what_is_frozen_make_the_model",),
    ),
    "tune: every process joins blocks in an order of its own": Break(
        "models/tuning.py",
        "sorted(lower.keys() & upper.keys())",
        "lower.keys() & upper.keys()",
        (NETWORKS + "blocks_are_joined_by_the_same_program_in_every_process",),
    ),
    "tune: a checkpoint is read without what is frozen": Break(
        "checkpoints/whole.py",
        "trained, frozen = _described(checkpoint, tree)\n    arrays",
        "trained, frozen = _described(checkpoint, tree)[0], {}\n    arrays",
        (RUNS + "weights_are_read_as_a_whole_model",),
    ),
    "tune: what is frozen stays as it was drawn": Break(
        "training/start.py",
        "dataclasses.replace(state, frozen=frozen), transfer.and_also(shared)",
        "state, transfer.and_also(shared)",
        (RUNS + "a_run_starts_from_each_kind",),
    ),
    "tune: an average keeps company with other frozen weights": Break(
        "training/start.py",
        "dataclasses.replace(state, frozen=frozen), None\n",
        "dataclasses.replace(state, frozen=frozen), None if average is None else "
        "compiled.split(average, stage_key(config, compiled.stage.name))[0]\n",
        (RUNS + "a_run_starts_from_each_kind",),
    ),
    # Kept features
    "kept: features of other weights are found again": Break(
        "training/view_features.py",
        "(_FORMAT, backbone.hash, how, where, seen.told)",
        "(_FORMAT, how, where, seen.told)",
        (KEPT + "other_weights_views_or_draws_are_other_features",),
    ),
    "kept: every pass has the first view": Break(
        "data/feature_rows.py",
        "table.view(indices, passes % table.features.shape[1])",
        "table.view(indices, 0 * passes)",
        (KEPT + "each_pass_has_its_view_and_bad_images_are_skipped",),
    ),
    "kept: a file that was made from something else is believed": Break(
        "data/kept_features.py",
        "arrays = kept.recall(file, _ARRAYS, fingerprint=made_from)",
        "arrays = dict(__import__('numpy').load(file))",
        (KEPT + "a_file_of_other_features_and_a_damaged_one_are_passed_over",),
    ),
    # Which weights are taken
    "tune: what got worse is taken": Break(
        "inference/trained.py",
        'return Settled("best", f"{ended};',
        'return Settled("latest", f"{ended};',
        ("tests/serve/test_weights_taken.py",),
    ),
}
