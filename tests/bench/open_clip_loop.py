"""open_clip's model and its own loop, for the towers, weights and batches of ours."""

import math
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

import open_clip
import timm
import torch
from open_clip.loss import ClipLoss
from open_clip_train.train import train_one_epoch
from torch import Tensor, nn

from gestalt.config.schema import Experiment
from gestalt.model import DualEncoder

EVERY = 10  # steps from one logged point to the next, on both sides


def counterpart(config: Experiment, model: DualEncoder, *, side: int, length: int) -> nn.Module:
    """open_clip's CLIP with the towers and weights of ours, for captions of ``length`` tokens."""
    image, text = config.image, config.text
    sizes = {
        "patch_size": image.patch_size,
        "embed_dim": image.width,
        "depth": image.depth,
        "num_heads": image.heads,
    }
    changed = {key: value for key, value in sizes.items() if value is not None}
    trunk = timm.create_model(
        image.backbone, img_size=side, num_classes=0, global_pool="token", **changed
    )
    layers = {
        "context_length": length,
        "width": text.width,
        "heads": text.heads,
        "layers": text.layers,
    }
    clip = open_clip.CLIP(
        config.projection.width,
        {"layers": 1, "width": 64, "image_size": side},
        layers,
        output_dict=True,
    )
    projection: Any = nn.Linear(trunk.num_features, config.projection.width, bias=False)
    clip.visual = nn.Sequential(trunk, projection)
    ours = model.state_dict()

    def below(prefix: str) -> dict[str, Tensor]:
        return {
            key.removeprefix(prefix): value for key, value in ours.items() if key.startswith(prefix)
        }

    trunk.load_state_dict(below("image.tower.trunk."))
    projection.weight.data.copy_(ours["image.projection.linear.weight"])
    words = below("text.tower.model.")
    words["positional_embedding"] = words["positional_embedding"][:length]
    words.pop("attn_mask", None)
    clip.load_state_dict({**clip.state_dict(), **words})
    clip.text_projection.data.copy_(ours["text.projection.linear.weight"].T)
    clip.logit_scale.data.copy_(ours["logit_scale"])
    return clip


def their_optimizer(clip: nn.Module, config: Experiment) -> torch.optim.Optimizer:
    """AdamW as open_clip_train makes it, fused."""
    optimizer = config.optimizer
    plain = [value for value in clip.parameters() if value.ndim < 2]
    decaying = [value for value in clip.parameters() if value.ndim >= 2]
    groups = [
        {"params": plain, "weight_decay": 0.0},
        {"params": decaying, "weight_decay": optimizer.weight_decay},
    ]
    return torch.optim.AdamW(
        groups, lr=optimizer.learning_rate, betas=optimizer.betas, eps=optimizer.eps, fused=True
    )


def their_loop(
    clip: nn.Module,
    config: Experiment,
    batches: Iterator[tuple[Tensor, Tensor]],
    *,
    count: int,
    device: torch.device,
) -> None:
    """One epoch of open_clip's loop."""
    optimizer, loader = (
        their_optimizer(clip, config),
        _Loader(batches, count=count, samples=count * config.data.batch_size),
    )

    def schedule(step: int) -> None:
        for group in optimizer.param_groups:
            group["lr"] = (
                config.optimizer.learning_rate * 0.5 * (1 + math.cos(math.pi * step / count))
            )

    precision = "amp_bf16" if config.trainer.precision == "bf16-mixed" else "fp32"
    arguments = Namespace(
        device=str(device),
        precision=precision,
        batch_size=config.data.batch_size,
        accum_freq=1,
        distill=False,
        grad_clip_norm=config.trainer.gradient_clip_val,
        log_every_n_steps=EVERY,
        skip_scheduler=False,
        wandb=False,
        rank=0,
        local_rank=0,
        log_local=False,
        world_size=1,
        horovod=False,
    )
    data = {"train": Namespace(dataloader=loader, set_epoch=lambda epoch: None)}
    train_one_epoch(clip, data, ClipLoss(), 0, optimizer, None, schedule, None, arguments)


class _Loader:
    """Batches with the two numbers that open_clip's loop asks of a loader."""

    def __init__(self, batches: Iterator[Any], *, count: int, samples: int) -> None:
        self.batches, self.num_batches, self.num_samples = batches, count, samples

    def __iter__(self) -> Iterator[Any]:
        return self.batches
