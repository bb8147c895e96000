"""A system that lives in memory: the smallest complete connector, for tests, demonstrations and connector authors."""
