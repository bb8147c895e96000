"""Where does the demo keep its things?  A database and keys of its own, so that it needs no settings and touches none."""

from __future__ import annotations

import base64
import os
import secrets
import shlex
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "var" / "demo"


def prepare_environment() -> None:
    """Set the environment of the demo, before Django reads its settings; the worker that it starts inherits it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    os.environ.update(
        {
            "READ_DOT_ENV": "0",
            "SECRET_KEY": _kept("secret_key", secrets.token_urlsafe(50)),
            "CREDENTIAL_KEYS": _kept("credential_key", base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()),
            "ALLOWED_PRIVATE_NETWORKS": "127.0.0.0/8",
            "HTTPS": "0",
            "DEBUG": "0",
        }
    )
    os.environ.setdefault("DEMO_DATABASE_URL", f"sqlite:///{FOLDER / 'demo.sqlite3'}")
    os.environ["DATABASE_URL"] = os.environ["DEMO_DATABASE_URL"]
    os.environ["WORKER_RUN_FILE"] = str(FOLDER / "worker.json")
    os.environ.setdefault("WORKERS", "2")
    os.environ.setdefault("QUEUE_POLL_SECONDS", "0.2")
    os.environ.setdefault("LOG_LEVEL", "WARNING")


def main() -> None:
    """Print the demo's environment for a shell: eval "$(python -m config.demo)"."""
    prepare_environment()
    names = (
        "READ_DOT_ENV",
        "SECRET_KEY",
        "CREDENTIAL_KEYS",
        "ALLOWED_PRIVATE_NETWORKS",
        "HTTPS",
        "DATABASE_URL",
        "WORKER_RUN_FILE",
    )
    for name in names:
        print(f"export {name}={shlex.quote(os.environ[name])}")


def _kept(name: str, fresh: str) -> str:
    """Return a secret that is made once and kept beside the demo's database."""
    path = FOLDER / name
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(fresh)
    return path.read_text()


if __name__ == "__main__":
    main()
