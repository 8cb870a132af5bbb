"""Breaks of the image towers of others, and of what a run may add to a backbone."""

from tests.breaks.broken import Break

ADDITIONS, TOWERS, REFINED = (
    f"tests/{file}.py::test_" for file in ("tune/test_additions", "unit/test_towers", "unit/test_refined")
)
BREAKS = {
    "towers: a bottleneck is linear": Break(
        "models/bottleneck.py",
        "jax.nn.relu(x @ gathered(down))",
        "(x @ gathered(down))",
        (ADDITIONS + "a_block_with_a_bottleneck_is_the_papers_equation",),
    ),
    "towers: a fresh bottleneck moves the model": Break(
        "models/bottleneck.py",
        "jnp.zeros((depth",
        "jnp.ones((depth",
        (ADDITIONS + "a_fresh_bottleneck_is_the_frozen_model_bit_for_bit",),
    ),
    "towers: a head of another kind is taken over": Break(
        "checkpoints/warm_start.py",
        "(theirs.pool, theirs.head) != (ours.pool, ours.head)",
        "theirs.pool != ours.pool",
        (ADDITIONS + "a_run_goes_on_from_another",),
    ),
    "towers: an mlp head has no activation": Break(
        "models/heads.py",
        "gelu(hidden(x), None)",
        "hidden(x)",
        (ADDITIONS + "an_mlp_head_is_two_layers_with_a_gelu",),
    ),
    "towers: quick GELU is not quick": Break(
        "models/layers.py",
        "jax.nn.sigmoid(1.702 * x)",
        "jax.nn.sigmoid(1.6 * x)",
        (TOWERS + "activations_are_what_their_names_say",),
    ),
    "towers: query and value change places": Break(
        "weights/vit_siglip.py",
        "slice(rows // 3)",
        "slice(2 * rows // 3, rows)",
        (TOWERS + "transformers_pooling_is_taken_apart",),
    ),
    "towers: data2vec normalises its branches alone": Break(
        "models/data2vec.py",
        "(x + masked(branch(x), drop_path_mask, row))",
        "(masked(branch(x), drop_path_mask, row))",
        (REFINED + "features_are_those_of_the_published_order",),
    ),
    "towers: summed channels are not spread": Break(
        "weights/channels.py",
        "keepdims=True) / CHANNELS",
        "keepdims=True)",
        ("tests/unit/test_weight_import.py::test_patches_of_other_channels_are_summed_when_flagged",),
    ),
}
