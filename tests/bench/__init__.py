"""What does the engine cost, next to the least that the same work can cost?  `python -m tests.bench`."""
