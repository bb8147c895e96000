"""What must every connector do?  Subclass `suite.ConnectorConformance`; docs/connectors.md shows how."""
