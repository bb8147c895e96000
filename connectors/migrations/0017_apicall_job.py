from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("connectors", "0016_preview_ticks")]

    operations = [
        migrations.AddIndex(
            model_name="apicall",
            index=models.Index(condition=models.Q(("job_id__isnull", False)), fields=["job_id"], name="apicall_job"),
        ),
    ]
