"""The project: settings, addresses and the admin site."""
