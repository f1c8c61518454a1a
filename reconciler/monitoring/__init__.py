"""What running processes use, and what that means.

Belongs here: samples of CPU and memory, their history, trends, alerts. Never: decisions about processes; the store, which
holds nothing that changes by itself.
"""
