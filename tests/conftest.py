"""What do all tests share?  The environment is set in tests/environment.py, before Django reads its settings."""
