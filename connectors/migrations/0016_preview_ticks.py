"""What a person ticks in a preview: fields that are left out, removals that are allowed, and how often it was decided."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("connectors", "0015_schema_seen")]

    operations = [
        migrations.AddField(
            model_name="recordchange",
            name="left_out",
            field=models.TextField(blank=True, db_default="", default=""),
        ),
        migrations.AddField(
            model_name="recordchange",
            name="allowed",
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name="run",
            name="plan_revision",
            field=models.PositiveIntegerField(default=0),
        ),
    ]
