"""The three groups.  Their rights come after each `migrate` (config.access.give_rights): Django makes rights only then."""

from django.db import migrations

NAMES = ("Viewer", "Operator", "Administrator")


def make(apps, schema_editor):
    group = apps.get_model("auth", "Group")
    for name in NAMES:
        group.objects.using(schema_editor.connection.alias).get_or_create(name=name)


class Migration(migrations.Migration):
    dependencies = [("config", "0001_initial")]
    operations = [migrations.RunPython(make, migrations.RunPython.noop)]
