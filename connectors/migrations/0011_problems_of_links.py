"""Give the records that stand still already their groups of problems."""

import json

from django.db import migrations
from django.utils import timezone

BLOCK = 500


def group(apps, schema_editor):
    RecordLink = apps.get_model("connectors", "RecordLink")
    ProblemGroup = apps.get_model("connectors", "ProblemGroup")
    now, last, known = timezone.now(), 0, set()
    links = RecordLink.objects.filter(pending__in=[4, 5], ended=0).order_by("id")
    while rows := list(links.filter(id__gt=last).only("id", "args", "reason", "entity_sync_id", "integration_id")[:BLOCK]):
        last = rows[-1].id
        for link in rows:
            told = json.loads(link.args) if link.args else {}
            deleted = ".deleted" if told.get("why") == "deleted and edited" else ""
            key = str(told.get("fingerprint") or f"{link.entity_sync_id}.{link.reason}{deleted}")[:40]
            link.problem = key
            if key not in known:
                known.add(key)
                ProblemGroup.objects.get_or_create(
                    key=key,
                    defaults={
                        "integration_id": link.integration_id, "entity_sync_id": link.entity_sync_id,
                        "reason": link.reason, "code": str(told.get("code") or "")[:100],
                        "field": str(told.get("field") or "")[:100], "side": str(told.get("side") or ""),
                        "message": str(told.get("message") or "")[:1000], "first_seen": now, "last_seen": now,
                    },
                )
        RecordLink.objects.bulk_update(rows, ["problem"])


def ungroup(apps, schema_editor):
    apps.get_model("connectors", "ProblemGroup").objects.all().delete()


class Migration(migrations.Migration):

    dependencies = [
        ('connectors', '0010_problems'),
    ]

    operations = [migrations.RunPython(group, ungroup)]
