"""Digests: short names for content, which results, checkpoints and manifests hold."""

import hashlib


def short_digest(text: str) -> str:
    """Return the first sixteen hexadecimal digits of a text's SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
