"""How does Django itself write times?  Its own pages write them as ours do."""
