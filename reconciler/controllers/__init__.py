"""What to do next: one pure function a kind, `plan(key, world, now) -> Plan`. Values in, values out.

Controllers decide and write nothing; the executor acts. Never here: I/O, a clock, randomness, logging.
"""
