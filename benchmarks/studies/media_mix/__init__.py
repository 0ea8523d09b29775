"""The media mix against truths that are known."""
