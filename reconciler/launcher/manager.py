"""Tells whoever started us how we are, in the way of sd_notify(3): READY=1 once the API is served, STOPPING=1 at the end.

Without NOTIFY_SOCKET nothing is said. What we start never sees that variable.
"""

from __future__ import annotations

import _socket as socket
import os


def tell(text: str) -> str:
    """Sends one datagram; returns why that failed, or nothing."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return ""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.sendto(text.encode(), "\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:
        return f"NOTIFY_SOCKET {address} cannot be written to: {error}"
    finally:
        sock.close()
    return ""
