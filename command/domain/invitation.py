"""What the invited are told of a meeting: that there is one, that it has changed, begins soon, or will not be held.

Pure. Sends nothing (`convening` issues the notice). Invariant: each text says what, when and how to come, in both languages,
and a "1" confirms it.
"""

from datetime import datetime, timedelta, timezone

HEADS = {
    "invited": ("会议通知", "MEETING"),
    "changed": ("会议变更", "MEETING CHANGED"),
    "reminded": ("会议提醒", "REMINDER"),
    "cancelled": ("会议取消", "MEETING CANCELLED"),
}


def texts(what: str, title: str, starts_at: int, utc_offset_min: int, link: str) -> tuple[str, str]:
    """In Chinese and in English. `starts_at` in microseconds UTC; `link` "" where the node knows no address of its own."""
    at = datetime.fromtimestamp(starts_at // 1_000_000, timezone(timedelta(minutes=utc_offset_min)))
    zh_head, en_head = HEADS[what]
    zh = f"【{zh_head}】{title}，{at.month}月{at.day}日{at:%H:%M}"
    en = f"[{en_head}] {title}, {at:%Y-%m-%d %H:%M}"
    if what == "cancelled":
        return f"{zh}的会议不开了。", f"{en}, will not be held."
    if link:
        return f"{zh}，入会：{link} 回复1确认。", f"{en}, join: {link} Reply 1 to confirm."
    return f"{zh}，请按时登录系统入会。回复1确认。", f"{en}, sign in to join. Reply 1 to confirm."
