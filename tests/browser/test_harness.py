"""Do the browsers of the harness do what the tests of the product will ask of them?"""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from tests.browser import harness_firefox
from tests.browser.harness import Watch
from tests.browser.harness_firefox import Firefox, FirefoxError
from tests.browser.pages import site

POLICY = "default-src 'self'; img-src 'self' data:"
FAVICON = '<link rel="icon" href="data:,">'
CAMERA = f"""<!doctype html><title>camera</title>{FAVICON}
<video id="own" muted playsinline></video><video id="far" muted playsinline></video><button>start</button>
<input id="text"><script src="/camera.js"></script>"""
CAMERA_SCRIPT = """
window.frames_ = 0;
async function start() {
  const stream = await navigator.mediaDevices.getUserMedia({video: true, audio: true});
  const own = document.getElementById("own");
  own.srcObject = stream;
  own.play();
  const counted = () => { window.frames_ += 1; own.requestVideoFrameCallback(counted); };
  own.requestVideoFrameCallback(counted);
  const [a, b] = [new RTCPeerConnection(), new RTCPeerConnection()];
  const gathered = (peer) => new Promise((done) => {
    peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && done();
  });
  b.ontrack = ({streams}) => {
    const far = document.getElementById("far");
    if (far.srcObject) return;
    far.srcObject = streams[0];
    far.play();
  };
  for (const track of stream.getTracks()) a.addTrack(track, stream);
  const [offered, answered] = [gathered(a), gathered(b)];
  await a.setLocalDescription();
  await offered;
  await b.setRemoteDescription(a.localDescription);
  await b.setLocalDescription();
  await answered;
  await a.setRemoteDescription(b.localDescription);
  window.receiver = b;
}
async function decoded() {
  if (!window.receiver) return 0;
  const report = await window.receiver.getStats();
  return [...report.values()].find((row) => row.type === "inbound-rtp" && row.kind === "video")?.framesDecoded ?? 0;
}
document.querySelector("button").addEventListener("click", start);
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def firefox() -> AsyncIterator[Firefox]:
    """One for all tests of this file: each looks only at a tab of its own."""
    async with harness_firefox.firefox() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def camera() -> AsyncIterator[str]:
    async with site({"/": CAMERA, "/camera.js": CAMERA_SCRIPT}, POLICY) as url:
        yield url


async def frames_rise_in_chromium(page: Page, url: str) -> None:
    watch = Watch(page)
    await page.goto(url)
    await page.click("button")
    await page.wait_for_function("() => window.frames_ > 10")
    await page.wait_for_function("async () => await decoded() > 10")
    first = await page.evaluate("decoded()")
    await page.wait_for_function("async (first) => await decoded() > first + 5", arg=first)
    watch.assert_clean()


async def test_chromium_shows_its_fake_camera_and_decodes_it_over_loopback(chromium: Browser, camera: str) -> None:
    await frames_rise_in_chromium(await chromium.new_page(), camera)


async def test_chromium_without_any_ice_flag_decodes_too(chromium_plain: Browser, camera: str) -> None:
    await frames_rise_in_chromium(await chromium_plain.new_page(), camera)


async def test_firefox_shows_its_fake_camera_and_decodes_it_over_loopback(firefox: Firefox, camera: str) -> None:
    page = await firefox.open(camera)
    await page.click("button")
    await page.wait("() => window.frames_ > 10")
    first = await page.wait("async () => { const n = await decoded(); return n > 10 ? n : 0 }")
    assert await page.wait("async (first) => await decoded() > first + 5", first)
    assert await page.foreign() == []
    await page.close()


async def test_firefox_types_fills_reads_and_takes_a_picture(
    firefox: Firefox, camera: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    page = await firefox.open(camera)
    await page.type("#text", "烽火 1")
    assert await page.evaluate("() => document.querySelector('#text').value") == "烽火 1"
    await page.fill("#text", "2")
    assert await page.evaluate("(suffix) => document.querySelector('#text').value + suffix", "!") == "2!"
    assert await page.text("button") == "start"
    picture = tmp_path_factory.mktemp("firefox") / "page.png"
    await page.screenshot(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    await page.close()


async def test_a_failing_script_in_firefox_is_an_error_with_its_message(firefox: Firefox, camera: str) -> None:
    page = await firefox.open(camera)
    with pytest.raises(FirefoxError, match="no such luck"):
        await page.evaluate("() => { throw new Error('no such luck') }")


async def test_the_watch_sees_a_foreign_request_and_a_policy_violation(chromium: Browser) -> None:
    document = f"<!doctype html>{FAVICON}<script>1</script><img src='http://192.0.2.1/x.png'>"
    page = await chromium.new_page()
    watch = Watch(page)
    async with site({"/": document}, "default-src 'self'; img-src * data:") as url:
        await page.route("http://192.0.2.1/*", lambda route: route.abort())
        await page.goto(url)
    assert watch.foreign == ["http://192.0.2.1/x.png"]
    assert len(watch.violations) == 1
    with pytest.raises(AssertionError):
        watch.assert_clean()
