"""What do people see of services, provisioning and blackouts, and what may they do with them?"""

from scheduling.admin import blackouts, provisionings, services

__all__ = ["blackouts", "provisionings", "services"]
