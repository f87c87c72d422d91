"""The hash that identifies the weights of a model or of a part of it."""

import hashlib
from collections.abc import Mapping

import torch


def weights_hash(model: torch.nn.Module) -> str:
    """Return the SHA-256 over the tensors of the state dict in order of name."""
    return tensors_hash(model.state_dict())


def tensors_hash(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 over tensors in order of name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(
            tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
            if tensor.ndim
            else repr(tensor.item()).encode()
        )
    return digest.hexdigest()
