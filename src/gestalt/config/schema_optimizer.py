"""The part of the schema on optimisation."""

from dataclasses import dataclass
from typing import Literal

from gestalt.config.keys import key


@dataclass
class Optimizer:
    """Optimiser and schedule.

    The paper's main text states neither: rate and decay are those of its public code, betas and eps those of CLIP for ViTs.
    """

    name: Literal["adamw", "lamb"] = key("adamw", "The optimiser.")
    learning_rate: float = key(5e-4, "Peak learning rate.", above=0)
    betas: tuple[float, float] = key((0.9, 0.98), "Decay of the running means of gradient and squared gradient.", at_least=0, below=1)
    eps: float = key(1e-6, "Constant added to the denominator of an update.", above=0)
    weight_decay: float = key(0.2, "Decoupled weight decay, for matrices only.", at_least=0)
    warmup_steps: int = key(
        2000, "Steps of linear warm-up. Our choice: the public code sets 10,000 and stops at 5,000.", kind="steps", at_least=0
    )
    final_rate: float = key(0.0, "Share of the peak learning rate at the end of the cosine schedule.", at_least=0, at_most=1)
    image_rate: float = key(1.0, "Factor on the learning rate of the image tower.", above=0)
    text_rate: float = key(1.0, "Factor on the learning rate of the text tower.", above=0)
    layer_decay: float = key(1.0, "Factor on the learning rate per block, from the last block to the first.", above=0, at_most=1)
    ema: float | None = key(None, "Decay of the averaged weights that validation uses. `null`: no averaging.", above=0, below=1)
