"""The front-end packages in a real browser: under the strict policy, through the inline import map, offline."""

import pytest
from playwright.async_api import Browser

from tests.browser.harness import Watch
from tests.browser.harness_firefox import Firefox
from tests.browser.pages import STATIC, import_map, site

POLICY = (
    "default-src 'none'; script-src 'self' {hash}; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; font-src 'self'; media-src 'self' blob:; worker-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)
PAGE = """<!doctype html><html lang="zh-CN"><head><title>vendor</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="/vendor/@awesome.me/webawesome/dist/styles/webawesome.css">
<link rel="stylesheet" href="/vendor/ol/ol.css"><link rel="stylesheet" href="/vendor/uplot/dist/uPlot.min.css">
<link rel="stylesheet" href="/page.css"><script type="importmap">{map}</script>
<script type="module" src="/page.js"></script></head>
<body><div id="map"></div><div id="chart"></div><main></main></body></html>"""
STYLE = "#map { width: 600px; height: 300px } #chart { width: 600px }"
SCRIPT = """
import { LitElement, css, html } from "lit";
import { repeat } from "lit/directives/repeat.js";
import { styleMap } from "lit/directives/style-map.js";
import OlMap from "ol/Map.js";
import View from "ol/View.js";
import Overlay from "ol/Overlay.js";
import GeoJSON from "ol/format/GeoJSON.js";
import TopoJSON from "ol/format/TopoJSON.js";
import { Draw, Modify, Snap, Select } from "ol/interaction.js";
import VectorImageLayer from "ol/layer/VectorImage.js";
import VectorLayer from "ol/layer/Vector.js";
import VectorSource from "ol/source/Vector.js";
import { Circle, Fill, Icon, Stroke, Style, Text } from "ol/style.js";
import { fromLonLat } from "ol/proj.js";
import { register } from "ol/proj/proj4.js";
import "proj4";
import uPlot from "uplot";
import "/static/icons.js";
import "@awesome.me/webawesome/dist/translations/zh-cn.js";

const NAMES = "badge button callout card checkbox copy-button details dialog divider drawer dropdown dropdown-item " +
  "format-date icon input number-input option popover popup progress-bar progress-ring radio radio-group relative-time " +
  "select skeleton slider spinner split-panel switch tab tab-group tab-panel tag textarea toast toast-item tooltip tree " +
  "tree-item";
for (const name of NAMES.split(" "))
  await import(`@awesome.me/webawesome/dist/components/${name}/${name}.js`);

class AppRoot extends LitElement {
  static styles = css`:host { display: block } b { color: rgb(1, 2, 3) }`;
  static properties = { rows: { type: Array }, look: { type: Object } };
  constructor() {
    super();
    this.rows = [1, 2, 3];
    this.look = { fontWeight: "300", "--gone": 1, marginLeft: "3px !important" };
  }
  render() {
    return html`<b style=${styleMap(this.look)}>烽火</b>
      ${repeat(this.rows, (row) => row, (row) => html`<i>${row}</i>`)}
      <wa-button variant="brand"><wa-icon slot="start" name="telephone"></wa-icon>呼叫</wa-button>
      <wa-select label="级别" value="1"><wa-option value="1">I</wa-option><wa-option value="2">II</wa-option></wa-select>
      <wa-input label="地点" clearable value="x"></wa-input><wa-switch checked>开</wa-switch>
      <wa-tooltip for="t">tip</wa-tooltip><span id="t">t</span><wa-slider></wa-slider>
      <wa-progress-bar value="40"></wa-progress-bar><wa-progress-ring value="30"></wa-progress-ring>
      <wa-tab-group><wa-tab panel="a">A</wa-tab><wa-tab-panel name="a">a</wa-tab-panel></wa-tab-group>
      <wa-dropdown><wa-button slot="trigger" with-caret>菜单</wa-button><wa-dropdown-item>一</wa-dropdown-item></wa-dropdown>
      <wa-split-panel><div slot="start">a</div><div slot="end">b</div></wa-split-panel>
      <wa-details summary="详情">x</wa-details><wa-callout>note</wa-callout><wa-textarea label="t"></wa-textarea>
      <wa-relative-time date="2026-01-01"></wa-relative-time><wa-copy-button value="x"></wa-copy-button>
      <wa-dialog label="d"><p>in the dialog</p></wa-dialog><wa-drawer label="w">d</wa-drawer>
      <wa-radio-group label="r"><wa-radio value="1">1</wa-radio></wa-radio-group><wa-skeleton></wa-skeleton>
      <wa-tree><wa-tree-item>t</wa-tree-item></wa-tree><wa-toast></wa-toast><wa-tag with-remove>tag</wa-tag>`;
  }
}
customElements.define("app-root", AppRoot);
document.querySelector("main").append(document.createElement("app-root"));
const app = document.querySelector("app-root");
await app.updateComplete;
const bold = app.shadowRoot.querySelector("b");
const before = bold.style.cssText;
app.look = { fontWeight: "700" };
await app.updateComplete;

const proj4 = globalThis.proj4;
proj4.defs("EPSG:4490", "+proj=longlat +ellps=GRS80 +no_defs");
register(proj4);

const topology = await (await fetch("/vendor/world-atlas/land-50m.json")).json();
const land = new TopoJSON().readFeatures(topology, { featureProjection: "EPSG:3857" });
const units = new VectorSource();
const map = new OlMap({
  target: "map",
  layers: [
    new VectorImageLayer({ source: new VectorSource({ features: land }),
      style: new Style({ fill: new Fill({ color: "#ccc" }) }) }),
    new VectorLayer({ source: units, style: [
      new Style({ image: new Circle({ radius: 6, fill: new Fill({ color: "#f00" }) }), text: new Text({ text: "车" }) }),
      new Style({ stroke: new Stroke({ color: "#00f", width: 3 }) }),
      new Style({ image: new Icon({ src: "/vendor/bootstrap-icons/icons/truck.svg", width: 20 }) }),
    ] }),
  ],
  overlays: [new Overlay({ element: document.createElement("div"), position: fromLonLat([110, 34]) })],
  view: new View({ center: fromLonLat([109, 34]), zoom: 4 }),
});
map.addInteraction(new Draw({ source: units, type: "Polygon" }));
map.addInteraction(new Modify({ source: units }));
map.addInteraction(new Snap({ source: units }));
map.addInteraction(new Select());
units.addFeatures(new GeoJSON().readFeatures({ type: "Point", coordinates: [109, 34] },
  { featureProjection: "EPSG:3857" }));
await new Promise((done) => map.once("rendercomplete", done));

new uPlot({ width: 600, height: 200, series: [{}, { label: "msg/s", stroke: "red" }] }, [[1, 2, 3], [4, 5, 6]],
  document.getElementById("chart"));

const root = document.querySelector("app-root").shadowRoot;
for (const element of root.querySelectorAll("*")) await element.updateComplete;
const dialog = root.querySelector("wa-dialog");
await Promise.all([new Promise((done) => dialog.addEventListener("wa-after-show", done, { once: true })),
  dialog.open = true]);
await Promise.all([new Promise((done) => dialog.addEventListener("wa-after-hide", done, { once: true })),
  dialog.open = false]);
const icon = root.querySelector("wa-icon");
while (!icon.shadowRoot.querySelector("svg")) await new Promise(requestAnimationFrame);
const canvas = document.querySelector("#map canvas");
const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
window.outcome = {
  styled: getComputedStyle(root.querySelector("b")).color,
  weight: getComputedStyle(root.querySelector("b")).fontWeight,
  undefinedElements: [...root.querySelectorAll(":not(:defined)")].map((element) => element.localName),
  painted: pixels.some((value, index) => index % 4 === 0 && value > 200),
  land: land.length, chart: document.querySelectorAll("#chart canvas").length,
  before, after: bold.style.cssText, lits: window.litElementVersions?.length,
  projected: proj4("EPSG:4490", "EPSG:3857", [109, 34]).length,
};
"""


def documents() -> tuple[dict[str, str], str]:
    text, source = import_map()
    page = PAGE.replace("{map}", text)
    return {"/": page, "/page.js": SCRIPT, "/page.css": STYLE}, POLICY.format(hash=source)


def check(outcome: dict[str, object]) -> None:
    assert outcome["styled"] == "rgb(1, 2, 3)"
    assert outcome["weight"] == "700"
    assert outcome["before"] == "font-weight: 300; --gone: 1; margin-left: 3px !important;"
    assert outcome["after"] == "font-weight: 700;"
    assert outcome["undefinedElements"] == []
    assert outcome["painted"] is True
    assert outcome["chart"] == 1
    assert outcome["lits"] == 1
    assert outcome["projected"] == 2


@pytest.fixture(autouse=True)
def packages() -> None:
    if not (STATIC / "node_modules").is_dir():
        pytest.skip("SKIPPED (not installed): static/node_modules (make setup)")


async def test_every_package_works_in_chromium_under_the_strict_policy_and_offline(chromium: Browser) -> None:
    page = await chromium.new_page()
    watch = Watch(page)
    pages, policy = documents()
    async with site(pages, policy) as url:
        await page.goto(url)
        await page.wait_for_function("() => window.outcome")
        check(await page.evaluate("window.outcome"))
        watch.assert_clean()


async def test_every_package_works_in_firefox_too(firefox: Firefox) -> None:
    pages, policy = documents()
    async with site(pages, policy) as url:
        page = await firefox.open(url)
        check(await page.wait("() => window.outcome"))
        assert await page.foreign() == []
        assert (await page.seen())["errors"] == []
