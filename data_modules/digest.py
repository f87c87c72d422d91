"""Digests: short names for content, which results, checkpoints and manifests hold."""

import hashlib


def short_digest(text: str) -> str:
    """Return the first sixteen hexadecimal digits of a text's SHA-256; names of files may have
    undecodable bytes.
    """
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:16]
