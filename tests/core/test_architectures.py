"""The sizes of the networks that both cores build, and the settings that contradict each other."""

from __future__ import annotations

from typing import Any

import pytest

from ptycho_config.errors import ConfigError
from ptycho_config.models import ModelConfig
from ptycho_core.learning.architectures import (
    border_width,
    check_network,
    decoder_widths,
    depth,
    encoder_widths,
    unet_channels,
)


def test_the_widths_follow_the_three_tables_and_go_on_between_and_beyond() -> None:
    assert [depth(n) for n in (32, 48, 64, 80, 96, 128, 256, 512, 1024)] == [2, 3, 3, 3, 4, 4, 5, 6, 7]
    assert encoder_widths(3, 2) == [64, 128, 256]
    assert encoder_widths(5, 1) == [8, 16, 32, 64, 128]
    assert decoder_widths(3, 2) == [128, 64]
    assert decoder_widths(5, 1) == [256, 128, 64, 32]
    assert decoder_widths(7, 1) == [256, 256, 256, 128, 64, 32]
    assert [border_width(depth(n), 2) for n in (64, 128, 256)] == [2 * 2048 // n for n in (64, 128, 256)]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"overlap_constraint": "none", "object_big": False, "gridsize": 2}, "--overlap-constraint group"),
        ({"N": 128}, "`N` is 128 and the probe 64 px wide"),
        ({"unet_passes": 2, "input_channels": "amplitude"}, "--input-channels backprojection"),
        ({"unet_passes": 2, "architecture": "cnn"}, "`cnn` sees each frame once"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        check_network(ModelConfig(**settings), 64)


def test_what_agrees_passes() -> None:
    check_network(ModelConfig(unet_passes=3), 64)
    check_network(ModelConfig(architecture="fno", gridsize=2, object_big=False), 64)


@pytest.mark.parametrize(
    ("settings", "channels"), [({"input_channels": "amplitude"}, 1), ({}, 3), ({"unet_passes": 2}, 5)]
)
def test_the_unet_sees_so_many_images_of_a_frame(settings: dict[str, Any], channels: int) -> None:
    assert unet_channels(ModelConfig(**settings)) == channels
