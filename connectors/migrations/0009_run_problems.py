from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('connectors', '0008_operate'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='problems',
            field=models.PositiveIntegerField(default=0),
        ),
    ]
