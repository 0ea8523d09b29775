"""The agentic-marketing document's experiment, re-run and put beside policies it lacks."""
