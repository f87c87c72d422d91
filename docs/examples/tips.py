"""Google's TIPSv2, as a model of your own code.

    cd docs/examples
    gestalt eval python:tips:Tips evaluation.protocol=tips-448 \\
        "evaluation.benchmarks=[ade20k]" benchmark_root=DIR

Exercised with a stand-in of its interface only, never with its weights.  transformers downloads and
runs the model's own code.

Source: google-deepmind/tips and google/tipsv2-b14.  Its authors segment by the values of the last
block; this example uses its usual patch tokens.
"""

from torch import nn
from transformers import AutoModel


class Tips(nn.Module):
    """TIPSv2; its parts are described in docs/evaluation.md."""

    stride, size = 14, 448
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self):
        super().__init__()
        self.model = AutoModel.from_pretrained("google/tipsv2-b14", trust_remote_code=True)

    def encode(self, pixels):
        """Return the class token (B, E) and the patches (B, N, E)."""
        output = self.model.encode_image(pixels)
        return output.cls_token[:, 0], output.patch_tokens

    def embed_text(self, texts):
        """Embed K texts: (K, E)."""
        return self.model.encode_text(texts)
