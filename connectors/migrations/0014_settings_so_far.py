"""The settings that were there before their history was kept are its first entry: what is changed later can be taken back."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from django.db import migrations
from django.utils import timezone

TRACKED = ("Integration", "EntitySync", "FieldMapping", "PicklistMapping")
WHY = "As it was when history began"
BATCH = 500


def begin(apps: Any, schema_editor: Any) -> None:
    """Keep the present state of every row."""
    moment, change = timezone.now(), uuid4().hex
    for name in TRACKED:
        model, kept = apps.get_model("connectors", name), apps.get_model("connectors", f"Historical{name}")
        columns = [
            f.attname
            for f in model._meta.concrete_fields
            if f.attname in {k.attname for k in kept._meta.concrete_fields}
        ]
        rows = (
            kept(
                history_date=moment, history_type="+", history_change_reason=WHY, change=change,
                **{column: getattr(row, column) for column in columns},
            )
            for row in model.objects.iterator(chunk_size=BATCH)
        )  # fmt: skip
        kept.objects.bulk_create(rows, batch_size=BATCH)


class Migration(migrations.Migration):
    dependencies = [("connectors", "0013_settings_history")]

    operations = [migrations.RunPython(begin, migrations.RunPython.noop)]
