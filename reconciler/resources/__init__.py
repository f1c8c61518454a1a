"""What is said: one file a kind, its spec and its status as frozen pydantic models.

Belongs here: shapes, units, defaults, and checks of one object by itself. Never: files, processes, other objects, time.
"""
