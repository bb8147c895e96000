"""How are mappings and options saved by a person?  Admin and API call this: the service's function, and the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import transaction

from config import audit
from connectors.models import EntitySync, FieldMapping, changing
from connectors.sync import drafts, mapping_files, optioning
from connectors.sync.drafts import NAMES, Row, shown
from connectors.sync.mapping_files import Difference
from connectors.sync.schema import Schema, stored
from jobs import clock

MAY = "connectors.change_fieldmapping"
MAY_OPTIONS = "connectors.change_picklistmapping"
MAY_READ = "connectors.operate_integration"  # asks the systems, changes no setting


def may_change(user: Any) -> bool:
    """Whether a person may change mappings: rows come and go with them."""
    return bool(user.has_perms([MAY, "connectors.add_fieldmapping", "connectors.delete_fieldmapping"]))


def may_change_options(user: Any) -> bool:
    """Whether a person may change the pairs of picklists."""
    return bool(user.has_perms([MAY_OPTIONS, "connectors.add_picklistmapping", "connectors.delete_picklistmapping"]))


def save_rows(
    sync: EntitySync, rows: Sequence[Row], user: Any, *, revision: int, why: str = "", seen: Sequence[Row] = ()
) -> list[str]:
    """Make the mappings these rows.  Returns what changed.  Raises StaleMappings and MappingsError."""
    before = drafts.rows_of(sync)
    said = drafts.save(sync, rows, revision=revision, now=clock.now(), by=str(user), user=user, why=why, seen=seen)
    if said:
        old, new = _told(before), _told(drafts.rows_of(sync))
        audit.log_action(user, sync, f"Mappings changed.{f' Why: {why}.' if why else ''}", *_apart(old, new))
    return said


def save_pairs(
    mapping: FieldMapping, rows: Sequence[optioning.PairRow], unmapped: str, default: str, user: Any, *, revision: int,
    schema: Schema | None = None, why: str = "",
) -> list[str]:  # fmt: skip
    """Make the pairs of a picklist these.  Returns what changed.  Raises StaleMappings and MappingsError."""
    sync = mapping.entity_sync
    before = {row.title: "paired" for row in optioning.pair_rows(mapping)}
    before |= {"Option without partner": mapping.unmapped, "Default": mapping.default}
    said = optioning.save(
        mapping, rows, unmapped, default, revision=revision, now=clock.now(), by=str(user), user=user, why=why,
        schema=schema or stored(sync.integration),
    )  # fmt: skip
    if said:
        after = {row.title: "paired" for row in optioning.pair_rows(mapping)}
        after |= {"Option without partner": mapping.unmapped, "Default": mapping.default}
        audit.log_action(user, mapping, f"Options changed.{f' Why: {why}.' if why else ''}", *_apart(before, after))
    return said


def save_file(sync: EntitySync, found: Difference, user: Any, *, revision: int, schema: Schema, why: str = "") -> int:
    """Make the mappings, or the options, what a file says.  Returns how many things changed.

    Raises StaleMappings and MappingsError; nothing is changed then.
    """
    why = why or "Imported from CSV"
    if found.what == mapping_files.FIELDS:
        return len(save_rows(sync, found.rows, user, revision=revision, why=why))
    changed = 0
    mappings = {m.pk: m for m in sync.mappings.all()}
    with changing(why, user), transaction.atomic():
        drafts.lock(sync, revision)
        for pk, pairs in found.pairs.items():
            mapping = mappings[pk]
            mapping.entity_sync = sync
            changed += len(
                save_pairs(
                    mapping, pairs, mapping.unmapped or "park", mapping.default, user, revision=sync.revision, schema=schema,
                    why=why,
                )
            )  # fmt: skip
    return changed


def _told(rows: Sequence[Row]) -> dict[str, str]:
    usual = Row()
    return {
        row.name: ", ".join(
            f"{NAMES[name]} {shown(name, getattr(row, name))}"
            for name in NAMES
            if name in ("left", "right", "direction") or getattr(row, name) != getattr(usual, name)
        )
        for row in rows
    }


def _apart(before: dict[str, str], after: dict[str, str]) -> tuple[dict[str, object], dict[str, object]]:
    """Keep what differs: the log holds no whole list of mappings."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {n: before[n] for n in names if n in before}, {n: after[n] for n in names if n in after}
