"""Trials whose drivers are known, and shared with the study."""

from benchmarks.studies.tokens_to_policy.published_world import make_leaky

__all__ = ["make_leaky"]
