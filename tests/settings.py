"""The project's settings in the environment of the tests, for tools that read settings (mypy)."""

import tests.environment  # noqa: F401 - sets the environment first
from config.settings import *  # noqa: F403
