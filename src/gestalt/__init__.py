"""Gestalt: perceptual grouping in contrastive vision-language models."""
