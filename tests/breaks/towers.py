"""Breaks of the image towers of others, and of what a run may add to a backbone."""

from tests.breaks.broken import Break

ADDITIONS, TOWERS, REFINED, DINOV3, SIZES = (
    f"tests/{file}.py::test_"
    for file in (
        "tune/test_additions", "unit/test_towers", "unit/test_refined", "unit/test_dinov3", "unit/test_dinov2_sizes"
    )
)  # fmt: skip
PAPERS = "tests/unit/test_tower_forwards.py::test_features_are_those_of_the_papers"
RULES = ("tests/unit/test_posemb_rules.py",)


def _of(*cases: str) -> tuple[str, ...]:
    """The second computation of these cases, `family-activation-pool`."""
    return tuple(f"{PAPERS}[{case}]" for case in cases)


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
        (TOWERS + "transformers_names_are_read_and_its_pooling_is_taken_apart",),
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
    # CLIP
    "towers: CLIP's blocks read what is not normalised": Break(
        "models/clip.py",
        "return self.norm_pre(super()._embedded(images))",
        "return (x := super()._embedded(images)) + 0 * self.norm_pre(x)",
        _of("clip-gelu-cls"),
    ),
    "towers: OpenAI's towers compute with the exact GELU": Break(
        "models/layers.py",
        '"quick_gelu": functools.partial(Mlp, activation=quick_gelu)',
        '"quick_gelu": Mlp',
        _of("clip-quick_gelu-cls"),
    ),
    "towers: the quick sizes are not quick": Break(
        "models/clip.py",
        'f"{name}_quick": ViTSize(*sizes, mlp="quick_gelu")',
        'f"{name}_quick": ViTSize(*sizes, mlp="gelu")',
        (TOWERS + "names_tell_the_activation",),
    ),
    "towers: a CLIP without a word on its activation has the exact one": Break(
        "weights/vit_clip.py",
        '_PUBLISHED = {"hidden_act": "quick_gelu"',
        '_PUBLISHED = {"hidden_act": "gelu"',
        (TOWERS + "transformers_names_are_read_and_its_pooling_is_taken_apart",),
    ),
    "towers: CLIP's projection is taken for a head": Break(
        "weights/vit_clip.py",
        'return not tensors.read("head.bias").any()',
        "return False",
        (TOWERS + "timms_head_is_a_projection_where_its_bias_is_zero",),
    ),
    "towers: CLIP's table is resized by the other library's rule": Break(
        "weights/vit_clip.py",
        "if source.table is CLIP_HUGGING_FACE else",
        "if source.table is not CLIP_HUGGING_FACE else",
        (TOWERS + "tables_are_resized_as_their_library_does",),
    ),
    "towers: the norm before the blocks learns as the last one": Break(
        "models/clip.py",
        'r"^norm_pre/", layer_decay ** (size.depth + 1)',
        'r"^norm_pre/", head_lr_scale',
        (TOWERS + "every_parameter_has_its_learning_rate_and_decay",),
    ),
    # SigLIP
    "towers: tokens are pooled before they are normalised": Break(
        "models/siglip.py", "x = self.norm(x)\n", "x = x + 0 * self.norm(x)\n", _of("siglip-gelu-map")
    ),
    "towers: the MLP of attention pooling has no skip connection": Break(
        "models/siglip.py", "return (out + mlp(", "return (mlp(", _of("siglip-gelu_tanh-map")
    ),
    "towers: keys and values of attention pooling change places": Break(
        "models/siglip.py",
        "key, value = (y.reshape(batch, tokens, heads, -1)",
        "value, key = (y.reshape(batch, tokens, heads, -1)",
        _of("siglip-gelu_tanh-map"),
    ),
    "towers: SigLIP's MLPs have the exact GELU": Break(
        "models/layers.py",
        '"gelu_tanh": functools.partial(Mlp, activation=gelu_tanh)',
        '"gelu_tanh": Mlp',
        _of("siglip-gelu_tanh-mean"),
    ),
    "towers: a mean leaves out SigLIP's first patch": Break(
        "models/siglip.py", "else x.mean(axis=1)", "else x[:, 1:].mean(axis=1)", _of("siglip-gelu-mean")
    ),
    "towers: the query of attention pooling decays": Break(
        "models/siglip.py",
        '(r"^attn_pool/probe$", 0.0)',
        '(r"^attn_pool/probe$", weight_decay)',
        (TOWERS + "every_parameter_has_its_learning_rate_and_decay",),
    ),
    "towers: timm's SigLIPs all have the tanh form": Break(
        "weights/vit_siglip.py",
        '("gelu_tanh" if tanh else "gelu")',
        '("gelu" if tanh else "gelu_tanh")',
        (TOWERS + "timms_names_are_read",),
    ),
    # DINOv3
    "towers: turns count from the corners of the patches": Break(
        "models/dinov3.py",
        "dtype=np.float32) + np.float32(0.5))",
        "dtype=np.float32) + np.float32(0.0))",
        (DINOV3 + "angles_are_those_of_centres_from_minus_one_to_one",),
    ),
    "towers: turns by row and by column change places": Break(
        "models/dinov3.py", "[rows.ravel(), columns.ravel()]", "[columns.ravel(), rows.ravel()]", _of("dinov3-gelu-cls")
    ),
    "towers: turns go the other way": Break(
        "models/dinov3.py",
        "[first * cos - second * sin, second * cos + first * sin]",
        "[first * cos + second * sin, second * cos - first * sin]",
        _of("dinov3-gelu-cls"),
    ),
    "towers: keys are not turned": Break("models/dinov3.py", "turned(key, angles)", "key", _of("dinov3-gelu-cls")),
    "towers: neighbours are turned together": Break(
        "models/dinov3.py",
        "first, second = jnp.split(x[:, before:], 2, axis=-1)",
        "first, second = x[:, before:, :, 0::2], x[:, before:, :, 1::2]",
        _of("dinov3-gelu-cls"),
    ),
    "towers: turns are longer": Break(
        "models/dinov3.py", "ROPE_BASE = 100.0", "ROPE_BASE = 10000.0", _of("dinov3-gelu-cls")
    ),
    "towers: registers stand before the class token": Break(
        "models/dinov3.py",
        "[self.cls_token, self.register_tokens]",
        "[self.register_tokens, self.cls_token]",
        _of("dinov3-swiglu-cls"),
    ),
    "towers: DINOv3's mean takes registers in": Break(
        "models/dinov3.py",
        "return self.norm(x)[:, 1 + self.spec.size.registers :].mean(axis=1)",
        "return self.norm(x)[:, 1:].mean(axis=1)",
        _of("dinov3-gelu-mean"),
    ),
    "towers: biases that the source lacks do not start at zero": Break(
        "weights/vit_dinov3.py",
        'f"blocks/attn/{part}/bias": 0.0',
        'f"blocks/attn/{part}/bias": 1.0',
        (DINOV3 + "a_model_without_biases_starts_with_zeros",),
    ),
    "towers: Hugging Face's gate and value change places": Break(
        "weights/vit_dinov3.py",
        '("gate_proj", "up_proj") if gated',
        '("up_proj", "gate_proj") if gated',
        (DINOV3 + "the_gate_is_the_first_half_whatever_it_is_called",),
    ),
    "towers: another base of the turns is taken": Break(
        "weights/vit_dinov3.py",
        "if config.get(key, value) != value:",
        "if config.get(key, value) is None:",
        (DINOV3 + "another_computation_is_refused_by_name",),
    ),
    # DINOv2
    "towers: the gate closes the wrong half": Break(
        "models/layers.py",
        "jax.nn.silu(gate) * value",
        "gate * jax.nn.silu(value)",
        (*_of("dinov2-swiglu-cls"), SIZES + "the_gate_is_the_first_half"),
    ),
    "towers: LayerScale does not scale": Break(
        "models/layers.py", "return branch * gamma.astype(branch.dtype)", "return branch", _of("dinov2-gelu-cls")
    ),
    "towers: registers have no say": Break(
        "models/vit.py",
        "tokens = jnp.broadcast_to(self.register_tokens.astype(x.dtype),",
        "tokens = jnp.broadcast_to(0 * self.register_tokens.astype(x.dtype),",
        _of("dinov2-gelu-cls"),
    ),
    "towers: registers have a position": Break(
        "models/vit.py",
        "x = jnp.concatenate([x[:, :1], tokens, x[:, 1:]], axis=1)",
        "x = jnp.concatenate([x[:, :1], tokens + x[:, :1], x[:, 1:]], axis=1)",
        _of("dinov2-gelu-cls"),
    ),
    "towers: DINOv2's own offset is left out": Break(
        "models/posemb.py",
        "(new + 0.1) / old",
        "new / old",
        RULES,
    ),
    "towers: timm's DINOv2 is resized as its authors do": Break(
        "weights/vit_target.py", 'if "mask_token" not in shapes:', 'if "no_token" in shapes:', RULES
    ),
    "towers: transformers' registers make no difference to the table": Break(
        "weights/vit_target.py",
        'return ("antialiased" if has_registers else "plain"), "transformers"',
        'return "plain", "transformers"',
        RULES,
    ),
    # DINOv3's ConvNeXt
    "towers: names of DINOv3's ConvNeXt keep their prefix": Break(
        "weights/convnext.py",
        'tensors = tensors.without_prefix("model.")',
        "tensors = tensors",
        ("tests/unit/test_weight_import.py::test_dinov3s_convnext_is_read_with_its_prefix_and_without",),
    ),
    "towers: a ConvNeXt with other norms is taken": Break(
        "weights/convnext.py",
        "if beside.layer_norm_eps != LAYER_NORM_EPS:",
        "if beside.layer_norm_eps < 0:",
        ("tests/unit/test_weight_import.py::test_dinov3s_convnext_has_one_epsilon",),
    ),
    "towers: a stage of a ConvNeXt is normalised after its convolution": Break(
        "models/convnext.py",
        "else self.conv(self.norm(x))",
        "else self.norm(self.conv(x))",
        ("tests/parity/test_convnext.py",),
    ),
    # data2vec
    "towers: data2vec's blocks read what is not normalised": Break(
        "models/data2vec.py",
        "return self.norm_pre(super()._embedded(images))",
        "return (x := super()._embedded(images)) + 0 * self.norm_pre(x)",
        (REFINED + "features_are_those_of_the_published_order",),
    ),
    "towers: MIM-Refiner's grid is read column by column": Break(
        "weights/vit_refined.py",
        "stored(_POSEMB).reshape(flat)",
        "stored(_POSEMB).transpose(0, 2, 1, 3).reshape(flat)",
        (REFINED + "features_are_those_of_the_published_order",),
    ),
}
