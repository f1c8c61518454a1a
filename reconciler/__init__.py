"""Keeps plain processes in the state that YAML manifests describe.

This file holds the version and nothing else: the launcher imports it, and the launcher must stay small.
"""

__version__ = "0.1.0"
