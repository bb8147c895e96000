"""Where can a system call us, and what does an operator see and set of it?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from django.urls import reverse

from connectors.contract import Listens
from connectors.models import Hook
from connectors.registry import UnknownSystem, connector_class


def listener(system: str) -> Listens | None:
    """Return what takes a system's calls, None where it does not call."""
    try:
        cls = connector_class(system)
    except UnknownSystem:
        return None
    return cast("Listens", cls) if hasattr(cls, "receive") else None


def hook_of(system: str) -> Hook | None:
    """Return a system's hook, which is made when it is first asked for; None where the system does not call."""
    if listener(system) is None:
        return None
    hook, _ = Hook.objects.get_or_create(system=system)
    return hook


def path_of(hook: Hook) -> str:
    """Return the part of the address that comes after the hub's own."""
    return reverse("hook", args=[hook.system, hook.key])


def entered(text: str) -> Sequence[str]:
    """Return the verifier tokens that a person entered, one on a line or with commas between."""
    return [part.strip() for part in text.replace(",", "\n").splitlines() if part.strip()]


def standing(hook: Hook) -> Mapping[str, object]:
    """Return what is told of a hook by API and command; neither its tokens nor its address are in it."""
    return {
        "verifiers": len(hook.verifiers()), "last_heard_at": hook.last_heard_at, "heard": hook.heard,
        "forged": hook.forged, "repeated": hook.repeated, "unknown": hook.unknown,
    }  # fmt: skip
