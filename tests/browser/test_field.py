"""The field page, as somebody with a phone and a bad network meets it: Debian's Chromium against the real server."""

import struct
import zlib
from typing import Any

from playwright.async_api import Browser, Page, expect

from tests.browser.desk import READY_MS, command, report, sign_in, until
from tests.services import ServerProcess

PHONE = {"width": 390, "height": 844}
TARGET_PX = 38
HOME = {"latitude": 32.22, "longitude": 154.71, "accuracy": 9}
NETWORK_ERRORS = ("ERR_INTERNET_DISCONNECTED", "ERR_FAILED")


def png(side: int = 8) -> bytes:
    """A small picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((200, 90, 20)) * side for _ in range(side))
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


async def rows(page: Page, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = await page.evaluate(
        "(table) => import('/static/live.js').then(({live}) => live.rows(table))", table
    )
    return found


async def timeline(page: Page, incident: str) -> list[dict[str, Any]]:
    answer = await page.evaluate(
        "(id) => import('/static/api.js').then((api) => api.get(`/incidents/${id}/timeline`))", incident
    )
    return list(answer["items"])


async def order_for_fire(desk: Page, title: str, task: str) -> tuple[str, str]:
    """An incident and an order for the fire unit of the first county; their ids."""
    await until(desk, "() => import('/static/live.js').then(({live}) => live.ready('picture'))")
    unit = next(row for row in await rows(desk, "unit") if row["kind"] == "fire" and "一县" in row["name"])
    incident = await report(desk, title)
    body = {"incident": incident, "assignee": {"kind": "unit", "id": unit["id"]}, "task": task, "urgency": "emergency"}
    order = await command(desk, "POST", "/orders", {**body, "ladder": []})
    return incident, str(order["id"])


async def phone_of(browser: Browser, server: ServerProcess, account: str = "fire-county1") -> tuple[Page, Any]:
    return await sign_in(
        browser,
        server,
        account,
        path="/field",
        viewport=PHONE,
        has_touch=True,
        geolocation=HOME,
        permissions=["geolocation"],
    )


async def shell_is_kept(page: Page) -> None:
    """The service worker has what the page needs without a network."""
    await until(
        page,
        """async () => {
          const cache = await caches.open("fenghuo-field-1");
          const worker = (await navigator.serviceWorker.getRegistration("/field"))?.active;
          return Boolean(worker?.state === "activated" && navigator.serviceWorker.controller
            && await cache.match("/field") && await cache.match("/static/field/field.js")
            && await cache.match("/vendor/bootstrap-icons/icons/x-lg.svg"));
        }""",
    )


async def test_an_order_is_read_accepted_reported_and_done_on_the_phone(
    server: ServerProcess, chromium: Browser
) -> None:
    desk, _ = await sign_in(chromium, server, "duty-county1")
    phone, watch = await phone_of(chromium, server)
    incident, order = await order_for_fire(desk, "仓库起火", "赶赴现场灭火")
    card = phone.locator(f"[data-order='{order}']")
    await expect(card).to_have_attribute("data-state", "read")
    await card.locator("[data-act=accept]").click()
    await expect(card).to_have_attribute("data-state", "accepted")
    await card.locator("[data-act=report]").click()
    await phone.locator("dialog textarea").fill("已到场，明火已控制")
    await phone.locator("dialog button[type=submit]").click()
    await expect(card.locator(".last")).to_contain_text("明火已控制")
    await card.locator("[data-act=done]").click()
    await phone.locator("dialog button[type=submit]").click()
    await expect(card).to_have_attribute("data-state", "done")
    await expect(phone.locator("#unsent")).to_have_count(0)
    steps = [item["body"]["step"] for item in await timeline(desk, incident) if item["kind"] == "order.progressed"]
    assert steps[-3:] == ["accepted", "reported", "done"]
    assert "read" in steps
    watch.assert_clean()
    assert watch.navigations == 1


async def test_an_order_is_declined_only_with_a_reason(server: ServerProcess, chromium: Browser) -> None:
    desk, _ = await sign_in(chromium, server, "duty-county1")
    phone, watch = await phone_of(chromium, server)
    incident, order = await order_for_fire(desk, "道路塌方", "清理道路")
    card = phone.locator(f"[data-order='{order}']")
    await card.locator("[data-act=decline]").click()
    await phone.locator("dialog button[type=submit]").click()
    await expect(phone.locator("dialog[open]")).to_be_visible()
    await phone.locator("dialog textarea").fill("车辆故障")
    await phone.locator("dialog button[type=submit]").click()
    await expect(card).to_have_attribute("data-state", "declined")
    await expect(phone.locator("#unsent")).to_have_count(0)
    texts = [item["private"].get("text") for item in await timeline(desk, incident)]
    assert "车辆故障" in texts
    watch.assert_clean()


async def test_an_answer_without_a_network_says_so_outlives_a_reload_and_is_sent_once(
    server: ServerProcess, chromium: Browser
) -> None:
    desk, _ = await sign_in(chromium, server, "duty-county1")
    phone, watch = await phone_of(chromium, server)
    incident, order = await order_for_fire(desk, "储罐泄漏", "冷却储罐")
    card = phone.locator(f"[data-order='{order}']")
    await expect(card).to_have_attribute("data-state", "read")
    await shell_is_kept(phone)
    await until(
        phone,
        """(id) => import('/static/field/store.js').then(({recall}) => recall('rows'))
          .then((kept) => kept?.tables.order.some((row) => row.id === id))""",
        order,
    )
    await phone.context.set_offline(True)
    await card.locator("[data-act=accept]").click()
    await expect(card.locator("[data-pending=accepted]")).to_contain_text("尚未发出")
    await expect(phone.locator("#unsent")).to_be_visible()
    await phone.reload()
    await expect(card.locator("[data-pending=accepted]")).to_contain_text("尚未发出", timeout=READY_MS)
    await expect(phone.locator("#stale")).to_be_visible()
    assert not [item for item in await timeline(desk, incident) if item["body"].get("step") == "accepted"]
    await phone.context.set_offline(False)
    await expect(phone.locator("#unsent")).to_have_count(0, timeout=READY_MS)
    await expect(phone.locator("#stale")).to_have_count(0, timeout=READY_MS)
    await expect(card).to_have_attribute("data-state", "accepted")
    accepted = [item for item in await timeline(desk, incident) if item["body"].get("step") == "accepted"]
    assert len(accepted) == 1
    assert not watch.violations
    assert not [error for error in watch.errors if not any(name in error for name in NETWORK_ERRORS)]


async def test_what_the_server_refuses_later_is_shown_and_can_be_put_away(
    server: ServerProcess, chromium: Browser
) -> None:
    desk, _ = await sign_in(chromium, server, "duty-county1")
    phone, _ = await phone_of(chromium, server)
    _, order = await order_for_fire(desk, "群众被困", "转移群众")
    card = phone.locator(f"[data-order='{order}']")
    await expect(card).to_have_attribute("data-state", "read")
    read = "(id) => import('/static/live.js').then(({live}) => live.row('order', id)?.progress === 'read')"
    await until(desk, read, order)
    row = next(row for row in await rows(desk, "order") if row["id"] == order)
    await phone.context.set_offline(True)
    await card.locator("[data-act=accept]").click()
    await expect(card.locator("[data-pending=accepted]")).to_be_visible()
    await command(desk, "POST", f"/orders/{order}/cancel", {"version": row["version"], "reason": "误报"})
    await phone.context.set_offline(False)
    refused = phone.locator(".unsent.refused", has_text="命令已撤销")
    await expect(refused).to_be_visible(timeout=READY_MS)
    await refused.locator("button").click()
    await expect(refused).to_have_count(0)


async def test_fixes_taken_without_a_network_reach_the_desk_later(server: ServerProcess, chromium: Browser) -> None:
    desk, _ = await sign_in(chromium, server, "duty-county2")
    phone, _ = await phone_of(chromium, server, "fire-county2")
    await phone.locator("[data-tab=place]").click()
    await expect(phone.locator("#share")).to_have_attribute("aria-checked", "false")
    await phone.context.set_offline(True)
    await phone.locator("#share").click()
    await expect(phone.locator("#last-fix")).to_contain_text("32.22")
    await expect(phone.locator("#fixes-waiting")).to_have_text("1")
    await phone.context.set_offline(False)
    await expect(phone.locator("#fixes-waiting")).to_have_text("0", timeout=READY_MS)
    await expect(phone.locator("#last-sent")).not_to_have_text("从未")
    unit = next(row for row in await rows(desk, "unit") if row["kind"] == "fire" and "二县" in row["name"])
    await until(
        desk,
        "(id) => import('/static/live.js').then(({live}) => live.row('location', id)?.accuracy_m === 9)",
        unit["id"],
    )
    await phone.locator("#share").click()
    await expect(phone.locator("#share")).to_have_attribute("aria-checked", "false")


async def test_a_photo_travels_with_its_note(server: ServerProcess, chromium: Browser) -> None:
    desk, _ = await sign_in(chromium, server, "duty-county1")
    phone, watch = await phone_of(chromium, server)
    incident, order = await order_for_fire(desk, "山体滑坡", "查看滑坡体")
    card = phone.locator(f"[data-order='{order}']")
    await card.locator("[data-act=accept]").click()
    picture = {"name": "shot.png", "mimeType": "image/png", "buffer": png()}
    await card.locator("input[type=file]").set_input_files(picture)  # type: ignore[arg-type]
    await expect(phone.locator("dialog img.shot")).to_be_visible()
    await phone.locator("dialog textarea").fill("滑坡体前缘")
    await phone.locator("dialog button[type=submit]").click()
    await expect(card.locator("[data-pending=photo].good")).to_be_visible()
    notes = [item for item in await timeline(desk, incident) if "滑坡体前缘" in str(item["private"])]
    assert len(notes) == 1
    assert "attachments" in str(notes[0])
    watch.assert_clean()


async def test_the_page_fits_a_phone_and_its_buttons_a_thumb(server: ServerProcess, chromium: Browser) -> None:
    desk, _ = await sign_in(chromium, server, "duty-county1")
    phone, watch = await phone_of(chromium, server)
    await order_for_fire(desk, "危化品运输车侧翻", "设置警戒，协助转运")
    await expect(phone.locator(".order-card").first).to_be_visible()
    for tab in ("orders", "place", "incidents"):
        await phone.locator(f"[data-tab={tab}]").click()
        await expect(phone.locator(f"[data-tab={tab}]")).to_have_attribute("aria-selected", "true")
        assert await phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        small = await phone.evaluate(
            """(px) => [...document.querySelectorAll("fh-field-app button, fh-field-app a.button, fh-field-app label.button")]
              .filter((e) => e.getBoundingClientRect().height < px).map((e) => e.outerHTML)""",
            TARGET_PX,
        )
        assert small == []
    await phone.locator("#language").click()
    await expect(phone.locator("[data-tab=orders]")).to_contain_text("Orders")
    await phone.locator("#language").click()
    watch.assert_clean()


async def test_a_full_queue_refuses_the_next_action_and_a_full_list_of_fixes_forgets_the_oldest(
    server: ServerProcess, chromium: Browser
) -> None:
    phone, _ = await phone_of(chromium, server, "medical-county2")
    await expect(phone.locator("[data-tab=orders]")).to_be_visible()
    await phone.context.set_offline(True)
    refused = await phone.evaluate(
        """async () => {
          const {outbox, QUEUE_MAX} = await import('/static/field/outbox.js');
          outbox.items = Array.from({length: QUEUE_MAX}, () => ({state: 'refused', account: 'other'}));
          const action = {kind: 'note', about: 'x', path: '/x', body: {}};
          return outbox.add(action).then(() => 'kept', (error) => error.code);
        }"""
    )
    assert refused == "field.queue_full"
    kept = await phone.evaluate(
        """async () => {
          const {sharing, FIXES_MAX} = await import('/static/field/position.js');
          const old = (n) => ({key: `old-${n}`, account: 'other', unit: '', at: n, lon: 0, lat: 0, accuracy_m: 1});
          sharing._fixes = Array.from({length: FIXES_MAX}, (_, n) => old(n));
          sharing.on = true;
          await sharing._heard({coords: {longitude: 1, latitude: 2, accuracy: 3, speed: null, heading: null, altitude: null},
            timestamp: Date.now()});
          return [sharing._fixes.length === FIXES_MAX, sharing._fixes[0].key, sharing._fixes.at(-1).lat];
        }"""
    )
    assert kept == [True, "old-1", 2]
