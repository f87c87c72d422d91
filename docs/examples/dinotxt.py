"""DINOv3 with dino.txt, as a model of your own code.

    cd docs/examples
    gestalt eval python:dinotxt:DinoTxt evaluation.protocol=dinotxt-512 \\
        "evaluation.benchmarks=[ade20k]" benchmark_root=DIR

Run with small random weights, never with the published ones.  ``torch.hub`` downloads and runs
DINOv3's own code, which needs ``pip install termcolor``; both files of weights come from Meta, on
request, and lie in the working directory under their published names, whose hash the code reads.

Source: facebookresearch/dinov3, dinov3/hub/dinotxt.py and
notebooks/dinotxt_segmentation_inference.ipynb: images and texts have two halves, of which the
second is aligned with patches; the first, of the class token, is left out.  The notebook compares
texts with the patches of the backbone, not of the blocks behind it.
"""

import torch
from torch import nn

CODE = "facebookresearch/dinov3:6876159a11b4df116f30f667f8c9888617df0751"
NAME = "dinov3_vitl16_dinotxt_tet1280d20h24l"
WEIGHTS = {
    "weights": "dinov3_vitl16_dinotxt_vision_head_and_text_encoder-a442d8f5.pth",
    "backbone_weights": "dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth",
}


class DinoTxt(nn.Module):
    """DINOv3 with dino.txt; its parts are described in docs/evaluation.md."""

    stride, size = 16, 512
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

    def __init__(self):
        super().__init__()
        # a commit, not a branch: without validation
        self.model, self.tokenizer = torch.hub.load(CODE, NAME, skip_validation=True, **WEIGHTS)

    def encode(self, pixels):
        """Return the mean patch (B, E) and the patches (B, N, E)."""
        whole, _, patches = self.model.encode_image_with_patch_tokens(pixels)
        return whole.chunk(2, dim=1)[1], patches

    def embed_text(self, texts):
        """Embed K texts: (K, E)."""
        tokens = self.tokenizer.tokenize(texts).to(self.model.logit_scale.device)
        return self.model.encode_text(tokens).chunk(2, dim=1)[1]
