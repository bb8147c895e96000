"""Is `manage.py check --deploy` clean with production settings?  Run by `make lint`."""

from __future__ import annotations

import os
import subprocess
import sys

ENVIRONMENT = {
    "READ_DOT_ENV": "0",
    "SECRET_KEY": "production-like-0123456789-abcdefghijklmnopqrstuvwxyz-ABCDEFG-0123456789",
    "CREDENTIAL_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    "ALLOWED_HOSTS": "hub.example.com",
    "CSRF_TRUSTED_ORIGINS": "https://hub.example.com",
    "DATABASE_URL": "sqlite:///:memory:",
    "DEBUG": "0",
}


def main() -> int:
    """Run the deployment check and the check for missing migrations; return the exit code."""
    environment = {**os.environ, **ENVIRONMENT}
    environment.pop("HTTPS", None)
    for command in (["check", "--deploy", "--fail-level", "WARNING"], ["makemigrations", "--check", "--dry-run"]):
        code = subprocess.run([sys.executable, "manage.py", *command], env=environment, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
