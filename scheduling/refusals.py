"""Why is a request about services refused?"""

from __future__ import annotations

from collections.abc import Sequence


class Refused(Exception):
    """The request does not fit the services as they are now; each problem is a sentence that says what to do."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = list(problems)
