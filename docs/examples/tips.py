"""Google's TIPSv2, as a model of your own code.

    cd docs/examples
    gestalt eval python:tips:Tips evaluation.protocol=tips-448 \\
        "evaluation.benchmarks=[ade20k]" benchmark_root=DIR
    gestalt reproduce tipsv2/ade20k --model python:tips:TipsL benchmark_root=DIR

Run with small random weights in the encoders of google-deepmind/tips, never with the published
ones.  transformers downloads and runs the model's own code.

Source: google/tipsv2-b14 and google-deepmind/tips at 4db271d, pytorch/image_encoder.py and
pytorch/TIPS_zeroshot_segmentation.ipynb, which segments by the values of the last block.
"""

from torch import nn
from transformers import AutoModel

from gestalt.encoders.last_block import Heads, LastBlock, split


class Tips(nn.Module):
    """TIPSv2; its parts are described in docs/evaluation.md."""

    weights = "google/tipsv2-b14"
    stride, size = 14, 448
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self):
        super().__init__()
        self.model = AutoModel.from_pretrained(self.weights, trust_remote_code=True)

    def encode(self, pixels):
        """Return the class token (B, E) and the patches (B, N, E)."""
        output = self.model.encode_image(pixels)
        return output.cls_token[:, 0], output.patch_tokens

    def embed_text(self, texts):
        """Embed K texts: (K, E)."""
        return self.model.encode_text(texts)

    def last_block(self):
        """Take apart the last block, whose values ``tips-448`` reads."""
        encoder = self.model.vision_encoder
        block = encoder.blocks[-1]
        attention = block.attn

        def heads(tokens, options):
            parts = attention.qkv(block.norm1(tokens)).chunk(3, dim=-1)
            return Heads(*(split(part, attention.num_heads) for part in parts), attention.scale)

        def merge(values, tokens):
            return block.ls1(attention.proj(values.transpose(1, 2).flatten(2)))

        return LastBlock(
            block,
            prefix=1 + encoder.num_register_tokens,
            heads=heads,
            merge=merge,
            feed=lambda tokens: block.ls2(block.mlp(block.norm2(tokens))),
        )


class TipsL(Tips):
    """TIPSv2 of size L, whose mIoU the notebook prints."""

    weights = "google/tipsv2-l14"
