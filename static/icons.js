// The icons of the screens: npm `bootstrap-icons`, from this node. Web Awesome's own come from outside (library
// "default") or as data: addresses that `connect-src 'self'` blocks (library "system"), so both are replaced here.
//
// The caller must import this file before any component. Names in `<wa-icon name="...">` are Bootstrap's.

import { registerIconLibrary } from "@awesome.me/webawesome/dist/components/icon/library.js";

// What Web Awesome's components call their own icons -> what Bootstrap calls them. Same name: not listed.
const SYSTEM = {
  "angles-left": "chevron-double-left",
  "angles-right": "chevron-double-right",
  backward: "rewind-fill",
  "backward-step": "skip-start-fill",
  bars: "list",
  check: "check-lg",
  "circle-question": "question-circle",
  "circle-xmark": "x-circle",
  circle: "circle-fill",
  "closed-captioning": "badge-cc-fill",
  "closed-captioning-slash": "badge-cc",
  compress: "fullscreen-exit",
  ellipsis: "three-dots",
  "ellipsis-vertical": "three-dots-vertical",
  expand: "fullscreen",
  "file-audio": "file-earmark-music",
  "file-code": "file-earmark-code",
  "file-excel": "file-earmark-excel",
  "file-image": "file-earmark-image",
  "file-pdf": "file-earmark-pdf",
  "file-powerpoint": "file-earmark-slides",
  "file-video": "file-earmark-play",
  "file-word": "file-earmark-word",
  "file-zipper": "file-earmark-zip",
  forward: "fast-forward-fill",
  "forward-step": "skip-end-fill",
  gauge: "speedometer2",
  "grip-vertical": "grip-vertical",
  indeterminate: "dash-lg",
  "magnifying-glass": "search",
  minus: "dash-lg",
  pause: "pause-fill",
  "picture-in-picture": "pip",
  play: "play-fill",
  "play-circle": "play-circle-fill",
  plus: "plus-lg",
  star: "star-fill",
  "table-columns": "layout-three-columns",
  thumbtack: "pin-angle-fill",
  "up-down": "arrow-down-up",
  user: "person-fill",
  volume: "volume-up-fill",
  "volume-low": "volume-down-fill",
  "volume-xmark": "volume-mute-fill",
  xmark: "x-lg",
};

/** @param {string} name */
const address = (name) => `/vendor/bootstrap-icons/icons/${name}.svg`;

/** @param {SVGElement} svg */
function mutator(svg) {
  svg.setAttribute("fill", "currentColor");
  svg.removeAttribute("width"); // the component sizes it
  svg.removeAttribute("height");
}

registerIconLibrary("default", { resolver: address, mutator });
registerIconLibrary("system", {
  resolver: (name) => address(SYSTEM[/** @type {keyof typeof SYSTEM} */ (name)] ?? name),
  mutator,
});
