"""Off-policy evaluation and the gate against known truths: coverage, error rates, power."""
