"""Encoders: towers that turn pixels or strings into ``Tokens``."""
