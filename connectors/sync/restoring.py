"""How does one go back to the settings of an earlier day?  As any change of settings: proposed, shown, then made."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db.models import Max

from connectors.models import EntitySync, FieldMapping, Integration, PicklistMapping
from connectors.sync import sentences
from connectors.sync.amending import Proposal
from connectors.sync.run import mark_settings_changed
from connectors.sync.settings_history import MODELS, TOLD, Naming, rows_of, values_of

# Switching an integration on or off, and its name, are no rules: going back to old rules leaves them.
RESTORED = {**TOLD, Integration: ("first_run", "route")}


class NoSuchChange(LookupError):
    """The integration has no such change in its history."""


def state_at(integration: Integration, moment: datetime) -> dict[Any, dict[int, Any]]:
    """Return each row's last state at a moment; what was not there then is left out."""
    found: dict[Any, dict[int, Any]] = {}
    for model in MODELS:
        states: dict[int, Any] = {}
        for row in rows_of(model, integration).filter(history_date__lte=moment).order_by("history_id"):
            states[row.id] = row
        found[model] = {pk: row for pk, row in states.items() if row.history_type != "-"}
    return found


def propose_restore(integration: Integration, change: str) -> Proposal:
    """Propose to go back to how the settings were after a change.  Raises NoSuchChange."""
    moments = [
        at for model in MODELS
        if (at := rows_of(model, integration).filter(change=change).aggregate(at=Max("history_date"))["at"]) is not None
    ]  # fmt: skip
    if not moments:
        raise NoSuchChange(f"{integration} has no change {change!r} in its history.")
    back = _Restore(integration, state_at(integration, max(moments)))
    return Proposal(
        integration, tuple(back.lines()), {"restore": change}, back.make, f"Went back to {max(moments):%Y-%m-%d %H:%M} UTC"
    )  # fmt: skip


class _Restore:
    """Makes the settings what they were."""

    def __init__(self, integration: Integration, wanted: dict[Any, dict[int, Any]]) -> None:
        self.integration = integration
        self.wanted = wanted
        self.there: dict[Any, dict[int, Any]] = {
            Integration: {integration.pk: Integration.objects.get(pk=integration.pk)},
            EntitySync: EntitySync.objects.filter(integration=integration).in_bulk(),
            FieldMapping: FieldMapping.objects.filter(entity_sync__integration=integration).in_bulk(),
            PicklistMapping: PicklistMapping.objects.filter(
                field_mapping__entity_sync__integration=integration
            ).in_bulk(),
        }

    def differing(self, model: Any) -> list[tuple[Any, Any]]:
        """Return (row, as it was) of those that are there and differ."""
        wanted = self.wanted[model]
        return [
            (row, wanted[pk]) for pk, row in self.there[model].items()
            if pk in wanted and any(getattr(row, name) != getattr(wanted[pk], name) for name in RESTORED[model])
        ]  # fmt: skip

    def gone(self, model: Any) -> list[Any]:
        """Return what was there and is no more.  An entity sync never goes."""
        return [old for pk, old in self.wanted[model].items() if pk not in self.there[model]]

    def late(self, model: Any) -> list[Any]:
        """Return what was not there yet.  An entity sync that was made since keeps its mappings: without any it could not run."""
        return [
            row for pk, row in self.there[model].items()
            if pk not in self.wanted[model] and (model is EntitySync or self._sync_of(model, row) in self.wanted[EntitySync])
        ]  # fmt: skip

    def lines(self) -> list[str]:
        """Say what going back changes."""
        naming = Naming(self.integration)
        found: list[str] = []
        for model in MODELS:
            for row, old in self.differing(model):
                before, after = ({name: getattr(one, name) for name in RESTORED[model]} for one in (row, old))
                title = naming.title(model, values_of(model, row), row)
                found += [f"{title}: {line}" for line in sentences.differences(before, after, naming.names)]
            if model in (FieldMapping, PicklistMapping):
                found += [f"{naming.title(model, values_of(model, old), old)}: made again" for old in self.gone(model)]
                found += [f"{naming.title(model, values_of(model, row), row)}: removed" for row in self.late(model)]
        return found

    def make(self) -> None:
        """Change what differs, and raise the revisions of what it belongs to."""
        syncs: set[int] = {row.pk for row, _ in self.differing(EntitySync)}
        for kind in (PicklistMapping, FieldMapping):
            for row in self.late(kind):
                syncs.add(self._sync_of(kind, row))
                kind._default_manager.get(pk=row.pk).delete()  # not this object: it is shown, tried, and then made
        self._clear_the_way()
        for model in MODELS:
            for row, old in self.differing(model):
                if model is not Integration:
                    syncs.add(self._sync_of(model, row))
                self._write(model, row.pk, old, RESTORED[model])
            if model in (FieldMapping, PicklistMapping):
                for old in self.gone(model):
                    syncs.add(self._sync_of(model, old))
                    model(**{f.attname: getattr(old, f.attname) for f in model._meta.concrete_fields}).save(
                        force_insert=True
                    )
        if self.differing(Integration):
            mark_settings_changed(self.integration)
        for sync in EntitySync.objects.filter(pk__in=syncs) if not self.differing(Integration) else ():
            mark_settings_changed(self.integration, sync)

    def _write(self, model: Any, pk: int, old: Any, names: Sequence[str]) -> None:
        """Write what was, on a row read anew: what this object holds stays as it was shown, so that it can be tried first."""
        row = model._default_manager.get(pk=pk)
        for name in names:
            setattr(row, name, getattr(old, name))
        row.save(update_fields=list(names))

    def _clear_the_way(self) -> None:
        """Let mappings swap their fields, and options who is written: two may not be the same, not even for a moment."""
        for row, _ in self.differing(FieldMapping):
            FieldMapping.objects.filter(pk=row.pk).update(left=f"~{row.pk}", right=f"~{row.pk}")
        numbers = [row.pk for row, _ in self.differing(PicklistMapping)]
        PicklistMapping.objects.filter(pk__in=numbers).update(writes_left=False, writes_right=False)

    def _sync_of(self, model: Any, row: Any) -> int:
        if model is EntitySync:
            return int(row.pk if hasattr(row, "pk") else row.id)
        if model is FieldMapping:
            return int(row.entity_sync_id)
        mapping = self.there[FieldMapping].get(row.field_mapping_id) or self.wanted[FieldMapping][row.field_mapping_id]
        return int(mapping.entity_sync_id)
