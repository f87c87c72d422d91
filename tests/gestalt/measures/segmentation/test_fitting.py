"""A protocol is fitted to the model: the proxy model of a reading is replaced when the protocol
changes.
"""

import torch

from gestalt.encoders.dense_model import DenseModel
from gestalt.measures.segmentation.fitting import fit_protocol
from gestalt.measures.segmentation.presets import top_down_protocol
from gestalt.models.start import build_model
from tests.gestalt.tiny_config import tiny_config


class Named(DenseModel):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def test_the_proxy_model_follows_the_current_protocol():
    torch.manual_seed(0)
    model = build_model(tiny_config())
    for name in ("timm:a", "timm:b", "timm:a"):
        fit_protocol(
            top_down_protocol("sclip-336/proxyclip", proxy=name),
            model,
            requested=True,
            open_vision=Named,
        )
        assert model.proxy.name == name
