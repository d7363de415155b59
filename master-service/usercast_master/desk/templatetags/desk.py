"""Times, and curves of them, as the desk's pages show them."""

from collections.abc import Sequence
from datetime import datetime

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()

_SPARK_SECONDS, _SPARK_HEIGHT = 600, 20
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


@register.filter
def seconds(milliseconds: int) -> str:
    """As ``duration``, and ``12 ms`` below a tenth of a second."""
    return f"{milliseconds} ms" if milliseconds < 100 else duration(milliseconds / 1000)


@register.filter
def sparkline(points: Sequence[tuple[int, int | None]]) -> SafeString:
    """A curve of values at moments ten seconds apart, as SVG; where there is no value, a gap."""
    known = [(start, worst) for start, worst in points if worst is not None]
    if not known:
        return SafeString("")
    begin, end = points[-1][0] - _SPARK_SECONDS, points[-1][0]
    top = max(*(worst for _, worst in known), 1)
    bars = " ".join(
        f"M{(start - begin) / 10:.0f} {_SPARK_HEIGHT}"
        f"v-{max(worst / top * (_SPARK_HEIGHT - 1), 1):.1f}"
        for start, worst in known
        if begin <= start <= end
    )
    return format_html(
        '<svg class="desk-spark" viewBox="-1 0 {} {}" preserveAspectRatio="none" role="img"'
        ' aria-label="worst lag of ten minutes: {}"><path d="{}"/></svg>',
        _SPARK_SECONDS // 10 + 2,
        _SPARK_HEIGHT,
        seconds(top),
        bars,
    )
