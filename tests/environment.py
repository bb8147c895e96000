"""The environment of every test, loaded by pytest before Django's settings are read."""

import os

os.environ.setdefault("READ_DOT_ENV", "0")
os.environ.setdefault("SECRET_KEY", "only-for-tests-and-nothing-else-0123456789-abcdefghijklmnop")
os.environ.setdefault("CREDENTIAL_KEYS", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
os.environ.setdefault("HTTPS", "0")
os.environ.setdefault("ALLOWED_PRIVATE_NETWORKS", "127.0.0.0/8")
