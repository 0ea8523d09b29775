"""Selected heads against true effects, where a constant effect is what must be beaten."""
