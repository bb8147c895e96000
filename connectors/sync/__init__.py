"""The engine.  Pure: values, mapping, merge, plan, guards.  Shell: store, compile, pull, planning, push, settle, run."""
