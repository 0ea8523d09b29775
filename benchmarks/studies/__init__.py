"""Studies: each a command with a quick and a full mode."""
