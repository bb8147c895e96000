"""Does another integration keep the same records of the same two systems in agreement?  Two of them would make records twice.

The same are two systems of which both sides are the same company or organization, whichever side they stand on and by
whichever connection.  Several companies on one shared system are another matter: one side differs (see `routing`).
"""

from __future__ import annotations

from collections.abc import Callable

from connectors.contract import ConnectorError
from connectors.models import Connection, EntitySync, Integration
from connectors.sync.compile import SettingsError
from connectors.sync.world import World

Ask = Callable[[Connection], str]  # whose books a connection leads to; "": nobody knows
Kinds = frozenset[tuple[str, str]]  # (left entity, right entity)


def refuse(integration: Integration, kinds: Kinds | None = None) -> None:
    """Raise SettingsError where another integration keeps these kinds of record already; default: all that this one keeps.

    It goes by what the connections have said when they were checked.
    """
    if found := problems(integration, kinds_of(integration) if kinds is None else kinds):
        raise SettingsError(found)


def refuse_run(integration: Integration, world: World) -> None:
    """Before a run reads or writes: of two integrations over the same systems the older one goes on, the younger is refused.

    A connection that was never checked is asked now whose books it leads to.
    """
    known: dict[int, str] = {}

    def ask(connection: Connection) -> str:
        if connection.pk not in known:
            known[connection.pk] = connection.instance or _asked(connection, world)
        return known[connection.pk]

    if found := problems(integration, kinds_of(integration), ask, older=True):
        raise SettingsError(found)


def problems(
    integration: Integration, kinds: Kinds, ask: Ask = lambda end: end.instance, *, older: bool = False
) -> list[str]:
    """Return a sentence for each other integration that keeps one of these kinds of record, switched on or not.

    `older`: only those that were there before; where a connection was never checked, that is a problem, too.
    """
    found: list[str] = []
    others = Integration.objects.exclude(pk=integration.pk).select_related("left", "right").order_by("pk")
    for other in others.filter(pk__lt=integration.pk) if older else others:
        theirs = kinds_of(other)
        straight = (kinds & theirs, (other.left, other.right))
        turned = (kinds & {(right, left) for left, right in theirs}, (other.right, other.left))
        for shared, (left, right) in (straight, turned):
            alike = {_same(integration.left, left, ask), _same(integration.right, right, ask)} if shared else {False}
            if alike == {True}:
                found.append(_sentence(other, shared))
            elif older and False not in alike:
                found.append(
                    f"Nobody knows whether {integration} and {other} are between the same two companies: a connection of them was "
                    "never checked. Press Check now on each of their connections, then try again."
                )
    return found


def _sentence(other: Integration, kinds: Kinds) -> str:
    named = ", ".join(f"{left} with {right}" for left, right in sorted(kinds))
    return (
        f"{other} keeps {named} of the same two companies in agreement already ({other.left} and {other.right}). Two "
        f"integrations would make records twice. Use {other}, or first switch off these entity syncs there."
    )


def kinds_of(integration: Integration) -> Kinds:
    """Return the pairs of entities that are switched on in it."""
    rows = EntitySync.objects.filter(integration=integration, enabled=True)
    return frozenset(rows.values_list("left_entity", "right_entity"))


def _same(one: Connection, two: Connection, ask: Ask) -> bool | None:
    """Say whether two connections lead to the same company; None: nobody knows."""
    if one.pk == two.pk:
        return True
    if one.system != two.system:
        return False
    mine, theirs = ask(one), ask(two)
    return mine == theirs if mine and theirs else None


def _asked(connection: Connection, world: World) -> str:
    try:
        return world.connect(connection).check().instance
    except ConnectorError:
        return ""
