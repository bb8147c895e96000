"""What all simulators share: clock, record store with a change log, fault plan, journal, and a real HTTP server."""

from connectors.simulation.clock import SimClock
from connectors.simulation.faults import Fault, FaultPlan
from connectors.simulation.server import Call, Simulator
from connectors.simulation.store import Change, Store, StoredRecord

__all__ = ["Call", "Change", "Fault", "FaultPlan", "SimClock", "Simulator", "Store", "StoredRecord"]
