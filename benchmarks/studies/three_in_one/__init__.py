"""The three-in-one world model, re-run: prediction, effects and consistency beside the truth."""
