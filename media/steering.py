"""RTCP on a socket of its own, told apart by the kernel: what is said about media wakes nobody, it is read along with media.

Forty subscribers say something five hundred times a second, and waking up for one such packet costs more than reading it.
Never reads or sends. Invariant: both sockets have one address, which no other process of ours can bind; where the kernel
doesn't help, there is one socket and everything comes on it.

Sources: RFC 7983 (first byte), RFC 5761 §4 (second byte), socket(7) and the kernel's `reuseport` (classic BPF).
"""

from __future__ import annotations

import ctypes
import socket
from struct import Struct

SO_ATTACH_REUSEPORT_CBPF = 51
WAITING_BYTES = 1 << 20  # of reports, before the kernel drops them

INSTRUCTION = Struct("=HBBI")  # struct sock_filter: code, jump if true, jump if false, operand
PROGRAM = Struct("@HP")  # struct sock_fprog
LOAD_BYTE, AND, JUMP_IF_EQUAL, RETURN = 0x30, 0x54, 0x15, 0x06
FIRST, SECOND = 0, 1  # the number of a socket: in the order in which they were bound

RTCP_ASIDE = b"".join(
    INSTRUCTION.pack(*line)
    for line in (
        (LOAD_BYTE, 0, 0, 0),  # a datagram that ends before this byte is for the first socket
        (AND, 0, 0, 0xC0),
        (JUMP_IF_EQUAL, 0, 4, 0x80),  # RTP or RTCP: 128 to 191
        (LOAD_BYTE, 0, 0, 1),
        (AND, 0, 0, 0xE0),
        (JUMP_IF_EQUAL, 0, 1, 0xC0),  # RTCP: 192 to 223
        (RETURN, 0, 0, SECOND),
        (RETURN, 0, 0, FIRST),
    )
)


def beside(first: socket.socket) -> socket.socket | None:
    """A second socket on the address of `first` (bound, nothing received yet), on which all RTCP comes from now on.

    None if the kernel refuses. `first` must have been bound without SO_REUSEPORT: so the address was nobody else's.
    """
    second = socket.socket(first.family, socket.SOCK_DGRAM)
    try:
        second.setblocking(False)
        second.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WAITING_BYTES)
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if first.family is socket.AF_INET6:
            second.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        second.bind(first.getsockname())
        lines = ctypes.create_string_buffer(RTCP_ASIDE)
        program = PROGRAM.pack(len(RTCP_ASIDE) // INSTRUCTION.size, ctypes.addressof(lines))
        first.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, program)
    except OSError:
        second.close()
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        return None
    return second
