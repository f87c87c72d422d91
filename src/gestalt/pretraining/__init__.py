"""Pretraining: what makes an init when none can be downloaded: self-distillation (DINO) and supervised classification."""
