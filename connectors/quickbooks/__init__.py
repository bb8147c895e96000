"""How does Syncline talk to QuickBooks Online?  Everything particular to that system is in this folder."""
