"""A calendar file of one meeting (iCalendar, RFC 5545), so that it stands in everybody's own calendar too.

Pure. It invites nobody (so it has no METHOD, which would ask for an ORGANIZER, RFC 5546 §3.2.1) and knows no time zones:
instants are UTC. Invariant: lines are at most 75 octets and end with CRLF
(§3.1), text is escaped (§3.3.11), and a later version of the same meeting has the same UID and a higher SEQUENCE (§3.8.7.4).
"""

from datetime import UTC, datetime

from msgspec import Struct

LINE_OCTETS_MAX = 75


class Event(Struct, frozen=True, kw_only=True):
    """What a calendar shows. Instants in microseconds UTC; `remind_before_s` None: no alarm."""

    uid: str
    title: str
    description: str
    url: str
    starts_at: int
    ends_at: int
    written_at: int
    sequence: int = 0
    cancelled: bool = False
    remind_before_s: int | None = None


def text(value: str) -> str:
    """TEXT (§3.3.11): backslash, semicolon, comma and line feed are escaped; other control characters are left out."""
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    value = value.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,").replace("\n", "\\n")
    return "".join(c for c in value if c >= " " and c != "\x7f")


def instant(at: int) -> str:
    """DATE-TIME in UTC (§3.3.5, form 2)."""
    return datetime.fromtimestamp(at // 1_000_000, UTC).strftime("%Y%m%dT%H%M%SZ")


def fold(line: str) -> str:
    """§3.1: cut into pieces of at most 75 octets, never inside a character; each further piece begins with a space."""
    pieces, piece, size = [], "", 0
    for character in line:
        octets = len(character.encode())
        if size + octets > LINE_OCTETS_MAX:
            pieces.append(piece)
            piece, size = " ", 1
        piece += character
        size += octets
    return "\r\n".join([*pieces, piece]) + "\r\n"


def calendar(event: Event) -> bytes:
    """The file. `uid` and `url` must be free of control characters."""
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//Fenghuo//Meetings//ZH",
        "CALSCALE:GREGORIAN",
        "BEGIN:VEVENT",
        f"UID:{event.uid}",
        f"DTSTAMP:{instant(event.written_at)}",
        f"SEQUENCE:{event.sequence}",
        f"DTSTART:{instant(event.starts_at)}",
        f"DTEND:{instant(event.ends_at)}",
        f"SUMMARY:{text(event.title)}",
        f"STATUS:{'CANCELLED' if event.cancelled else 'CONFIRMED'}",
    ]
    if event.description:
        lines.append(f"DESCRIPTION:{text(event.description)}")
    if event.url:
        lines.append(f"URL:{event.url}")
    if event.remind_before_s is not None and not event.cancelled:
        lines += [
            "BEGIN:VALARM",
            "ACTION:DISPLAY",
            f"DESCRIPTION:{text(event.title)}",
            f"TRIGGER:-PT{event.remind_before_s}S",
            "END:VALARM",
        ]
    lines += ["END:VEVENT", "END:VCALENDAR"]
    return "".join(fold(line) for line in lines).encode()
