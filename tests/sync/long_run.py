"""Play histories for hours: `python -m tests.sync.long_run --seeds 10000 [--first N] [--mutant NAME]`.

Prints each seed that breaks an invariant, and every 50th seed is played twice: the same seed must give the same history.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import nullcontext

import tests.environment  # noqa: F401 - sets the environment before Django reads its settings


def main(argv: list[str] | None = None) -> int:
    """Play, report, and return 1 when a seed failed (0 for a mutant that was caught)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument(
        "--mutant", default="", help="take one design rule away and stop at the first seed that notices"
    )
    options = parser.parse_args(argv)
    os.environ["DATABASE_URL"] = "sqlite://:memory:"
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    from django.core.management import call_command
    from django.db import transaction

    call_command("migrate", verbosity=0)
    from tests.sync.machine import play
    from tests.sync.mutants import MUTANTS

    noticed = AssertionError if options.mutant else Exception
    started, failed = time.monotonic(), 0
    with MUTANTS[options.mutant]() if options.mutant else nullcontext():  # type: ignore[attr-defined]
        for seed in range(options.first, options.first + options.seeds):
            for _ in range(2 if seed % 50 == 0 and not options.mutant else 1):
                with transaction.atomic():
                    try:
                        play(seed, options.steps)
                    except noticed as problem:
                        failed += 1
                        print(f"seed {seed}: {type(problem).__name__}: {str(problem)[:300]}", flush=True)
                    transaction.set_rollback(True)
            if failed and options.mutant:
                print(f"the mutant {options.mutant!r} was caught by seed {seed}")
                return 0
    rate = options.seeds / (time.monotonic() - started) * 3600
    print(f"{options.seeds} histories, {failed} failed, {rate:,.0f} an hour")
    return 1 if failed or options.mutant else 0


if __name__ == "__main__":
    sys.exit(main())
