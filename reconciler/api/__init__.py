"""The door for people and programs: HTTP over a Unix socket, answered when what was asked for is durable.

Belongs here: routes, the caller's rights, the form of answers. Never: policy, processes, the launcher.
"""
