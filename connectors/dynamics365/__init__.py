"""What is particular to Dynamics 365 (the Dataverse Web API)?  Connector and simulator; nothing else."""
