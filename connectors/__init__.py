"""How to talk to systems, and how to keep two of them in agreement."""
