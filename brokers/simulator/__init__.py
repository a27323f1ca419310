"""The other side of the wire: one simulated exchange behind faithful facades of the brokers' HTTP dialects.

It shares no code with the adapters. `server.SimulatorServer` runs it inside a test; `python -m brokers.simulator`
runs it as a process. docs/simulator.md tells how to steer it.
"""
