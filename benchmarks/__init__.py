"""Measurements: performance against peers, and studies that re-run what was published."""
