"""Times as the desk's pages say them."""

from datetime import datetime

from django import template

register = template.Library()

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


@register.filter
def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min``, ``5 h``, ``2 d``: the largest unit that fits."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{max(seconds, 0):.{0 if seconds >= 10 else 1}f} s"


@register.filter
def ago(moment: datetime, now: datetime) -> str:
    """How long before ``now``: ``now``, ``12 s ago``, ``3 min ago``."""
    seconds = int((now - moment).total_seconds())
    return "now" if seconds < 1 else f"{duration(seconds)} ago".replace(".0 s", " s")
