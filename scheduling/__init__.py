"""Services and their schedules.  Empty until scheduled services are built; runs are started by people until then."""
