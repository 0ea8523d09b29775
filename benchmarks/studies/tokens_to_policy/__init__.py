"""Tokens to policy: what drives effects, found honestly."""
