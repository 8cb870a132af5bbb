"""The nearest change that fits, found by trying."""

import pytest

from semivit_jax.preflight.search import Setting, nearby, nearest
from tests.configs import small_config

START = Setting("none", 1, 48)


def search(fits, promising=lambda _: True, max_tries=100):
    return nearest(START, most_fsdp=16, promising=promising, fits=fits, max_tries=max_tries)


def test_every_setting_changes_something_and_asks_for_less():
    settings = nearby(START, most_fsdp=16)
    assert START not in settings
    assert len(settings) == len(set(settings)) == 3 * 5 * 6 - 1
    for s in settings:
        assert s.fsdp in (1, 2, 4, 8, 16)
        assert s.images_per_device <= 48


def test_one_change_comes_before_two_and_small_before_large():
    settings = nearby(START, most_fsdp=16)
    assert settings[0] == Setting("dots", 1, 48)
    changed = [(s.remat != "none") + (s.fsdp != 1) + (s.images_per_device != 48) for s in settings]
    assert changed == sorted(changed)
    assert settings.index(Setting("none", 2, 48)) < settings.index(Setting("none", 16, 48))


def test_the_first_that_fits_is_found():
    found = search(lambda s: s.fsdp >= 4)
    assert found.setting == Setting("none", 4, 48)
    assert found.tried[-1] == found.setting
    assert not found.gave_up


def test_what_the_estimate_rules_out_is_never_tried():
    found = search(lambda s: s.fsdp >= 4, promising=lambda s: s.fsdp >= 8)
    assert found.tried == (Setting("none", 8, 48),)


def test_tries_are_limited_and_that_is_said():
    found = search(lambda _: False, max_tries=3)
    assert (found.setting, len(found.tried), found.gave_up) == (None, 3, True)
    assert not search(lambda _: False).gave_up, "everything was tried"


def test_flags_name_what_changed_and_apply_to_the_config():
    setting = Setting("full", 1, 12)
    assert setting.flags(START) == ("--config.model.remat=full", "--config.train.max_images_per_device=12")
    config = setting.applied_to(small_config())
    assert (config.model.remat, config.mesh.fsdp, config.train.max_images_per_device) == ("full", 1, 12)


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_rematerialisation_is_never_taken_back(remat):
    assert "none" not in {s.remat for s in nearby(Setting(remat, 1, 8), most_fsdp=4)}
