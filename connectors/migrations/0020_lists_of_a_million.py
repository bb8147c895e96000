from django.db import migrations, models
from django.db.models import F, Q


class Migration(migrations.Migration):
    """Indexes for lists and counts that must not read a million rows to show a few."""

    dependencies = [("connectors", "0019_link_by_sync")]

    operations = [
        migrations.AddIndex(
            model_name="recordlink",
            index=models.Index(
                F("entity_sync"), F("ended"), F("id").desc(), name="link_agreed", condition=Q(pending__isnull=True)
            ),
        ),
        migrations.AddIndex(
            model_name="recordlink",
            index=models.Index(F("pending"), F("id").desc(), name="link_by_state", condition=Q(pending__isnull=False)),
        ),
        migrations.AddIndex(
            model_name="recordlink",
            index=models.Index(
                F("reason"), F("entity_sync"), F("id").desc(), name="link_by_reason", condition=Q(pending__isnull=False)
            ),
        ),
        migrations.AddIndex(model_name="recordchange", index=models.Index(fields=["run", "id"], name="change_of_run")),
    ]
