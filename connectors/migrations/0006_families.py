# Primary contacts, tolerant matching, routing: their settings, and which records people have told apart.

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("connectors", "0005_services"),
    ]

    operations = [
        migrations.AddField(
            model_name="entitysync",
            name="match_tolerance",
            field=models.PositiveSmallIntegerField(default=0),
        ),
        migrations.AddField(
            model_name="integration",
            name="route",
            field=models.JSONField(blank=True, default=dict),
        ),
        migrations.AlterField(
            model_name="fieldmapping",
            name="when",
            field=models.CharField(
                choices=[
                    ("always", "Always"),
                    ("create", "Only at creation"),
                    ("later", "Always, but not at creation"),
                    ("empty", "Only where it is empty"),
                ],
                default="always",
                max_length=10,
            ),
        ),
        migrations.AlterField(
            model_name="recordlink",
            name="waits_on",
            field=models.CharField(blank=True, max_length=200, null=True),
        ),
        migrations.CreateModel(
            name="Stranger",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("left_id", models.CharField(max_length=100)),
                ("right_id", models.CharField(max_length=100)),
                ("by", models.CharField(blank=True, max_length=150)),
                ("at", models.DateTimeField()),
                (
                    "entity_sync",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="strangers",
                        to="connectors.entitysync",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["entity_sync", "right_id"], name="stranger_right")],
                "constraints": [
                    models.UniqueConstraint(fields=("entity_sync", "left_id", "right_id"), name="strangers_once")
                ],
            },
        ),
    ]
