"""Drifts: noticed how soon, and mended how."""
