"""`semivit models`: one row per model, with what is true of it."""

import flax.linen as nn
import jax
import pytest

from semivit_jax.cli import models
from semivit_jax.configs import own_folder
from semivit_jax.models import families
from semivit_jax.recipes.check import check
from semivit_jax.weights.exchanges import EXCHANGES

LOOKED_AT = ("vit_b16", "dinov2_g14_reg4", "convnext_tiny")
CONFIG = check(own_folder.get_config().to_dict())


def test_every_model_but_those_of_tests_has_a_row(monkeypatch):
    """Needs are worked out for those alone that are looked at, since each takes half a second."""
    needs = models._needs
    monkeypatch.setattr(models, "_needs", lambda spec, *rest: needs(spec, *rest) if spec.variant in LOOKED_AT else ())
    table = {row[0]: row[1:] for row in models.rows()}
    assert table.keys() == {variant for variant in families.variants() if "_test" not in variant}
    parameters, patch, tokens, *memory = table["vit_b16"]
    assert (parameters, patch, tokens) == ("85.8 M", "16", "197")
    everything, last_2, lora, head = map(float, memory)
    assert head < last_2 < lora < everything
    assert table["dinov2_g14_reg4"][2] == "261"
    assert table["convnext_tiny"][1:3] == ("stride 32", "7x7 grid")
    everything, last_2, lora, head = table["convnext_tiny"][3:]
    assert last_2 == "-"
    assert float(head) < float(lora) < float(everything)
    assert models.models(["--nothing"]) == 2


def test_the_grid_of_a_network_with_a_stride_is_the_one_it_computes(monkeypatch):
    """Of its last stage, at the pixels that the table is about."""
    stride, told = models._needs(models._spec("convnext_tiny"), CONFIG.model)[1:3]
    last = families.of("convnext_tiny").sizes["convnext_tiny"].widths[-1]
    grids = []

    def note(next_function, args, kwargs, context):
        out = next_function(*args, **kwargs)
        if isinstance(out, jax.Array) and out.ndim == 4 and out.shape[-1] == last:
            grids.append(out.shape[1:3])
        return out

    spec = models._spec("convnext_tiny")
    network = families.network(spec, families.compute(CONFIG.model, spec, backend="cpu"), 0.0)
    images = jax.ShapeDtypeStruct((1, models.PIXELS, models.PIXELS, 3), "float32")
    with nn.intercept_methods(note):
        jax.eval_shape(lambda key, x: network.features(network.init(key), x), jax.random.key(0), images)
    rows, columns = grids[-1]
    assert f"{rows}x{columns} grid" == told
    assert stride == f"stride {models.PIXELS // rows}"


@pytest.mark.parametrize("columns", [80, 140])
def test_the_table_is_whole_on_a_terminal_of(columns, monkeypatch, capsys):
    widest = ("vit_digits", "dinov2_g14_reg4", "siglip_so400m14_erf", "convnext_large")
    monkeypatch.setattr(models, "_shown", lambda: list(widest))
    monkeypatch.setenv("COLUMNS", str(columns))
    assert models.models([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0].split() == ["model", "parameters", "patch", "tokens", "all", "last_2", "lora", "head"]
    assert [line.split() for line in lines[2:6]] == [" ".join(row).split() for row in models.rows()]
    assert any(line.startswith("  facebook/dinov3-convnext-large-pretrain-lvd1689m") for line in lines)


@pytest.mark.parametrize("columns", [20, 40, 80, 140])
def test_no_name_of_public_weights_is_broken_on_a_terminal_of(columns):
    for exchange in EXCHANGES.values():
        for variant, public in exchange.public.items():
            first, *lines = models.sources(variant, width=columns)
            assert first == variant
            for weights in public:
                at = next(i for i, line in enumerate(lines) if line.split()[0] == weights.name)
                below = [line for line in lines[at + 1 :] if line.startswith("   ")]
                told = " ".join(" ".join([lines[at], *below]).split())
                note = f" ({weights.restricted})" if weights.restricted else ""
                assert told.startswith(weights.name + note)
            assert all(len(line) <= columns for line in lines if len(line.split()) > 1)
    assert models.sources("vit_s4", width=80) == []


def test_what_a_licence_restricts_stands_beside_the_name_where_there_is_room():
    assert "  timm/vit_base_patch16_224.mae (CC BY-NC 4.0: no commercial use)" in models.sources("vit_b16", width=80)
    names = [line.split()[0] for line in models.sources("dinov2_g14_reg4", width=80)]
    assert "facebook/dinov2-with-registers-giant" in names


@pytest.mark.slow
def test_the_needs_of_every_model_are_known():
    table = list(models.rows())
    assert {len(row) for row in table} == {8}
    assert not [row for row in table if "-" in (row[4], *row[6:])]
    assert {row[0] for row in table if row[5] == "-"} == {
        "convnext_tiny",
        "convnext_small",
        "convnext_base",
        "convnext_large",
    }
