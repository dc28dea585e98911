"""The import map and the allow-list of `/vendor/` name every file the front-end packages load from each other.

Follows the static imports of the packages' own files, no browser needed. Never executes them.
Invariant checked: whatever is reachable from ENTRIES resolves to an existing, allowed file.
"""

import json
import re
from pathlib import Path, PurePosixPath

import pytest

STATIC = Path(__file__).parent.parent / "static"
MODULES = STATIC / "node_modules"
ENTRIES = (
    "lit",
    "lit/decorators.js",
    "lit/directives/repeat.js",
    "lit/directives/class-map.js",
    "lit/directives/style-map.js",
    "lit/directives/ref.js",
    "ol/Map.js",
    "ol/View.js",
    "ol/Overlay.js",
    "ol/proj/proj4.js",
    "ol/control/defaults.js",
    "ol/format/GeoJSON.js",
    "ol/format/TopoJSON.js",
    "ol/format/WMTSCapabilities.js",
    "ol/format/MVT.js",
    "ol/geom/Circle.js",
    "ol/interaction.js",
    "ol/layer/Graticule.js",
    "ol/layer/Tile.js",
    "ol/layer/Vector.js",
    "ol/layer/VectorImage.js",
    "ol/source/Cluster.js",
    "ol/source/Vector.js",
    "ol/source/WMTS.js",
    "ol/source/XYZ.js",
    "ol/style.js",
    "proj4",
    "uplot",
    "@awesome.me/webawesome/dist/webawesome.js",
    "@awesome.me/webawesome/dist/translations/zh-cn.js",
)
# `import x from "y"`, `export * from "y"`, `import "y"`, `import("y")`, minified or not.
IMPORT = re.compile(r"""(?:\bfrom|\bimport)\s*\(?\s*["']([^"'\s]+)["']""")
COMMENT = re.compile(r"/\*.*?\*/|^\s*//.*?$", re.DOTALL | re.MULTILINE)

pytestmark = pytest.mark.skipif(not MODULES.is_dir(), reason="SKIPPED SERVICE: static/node_modules (make setup)")


def resolve(specifier: str, importer: PurePosixPath) -> PurePosixPath | None:
    """The path below `/vendor/` of `specifier`, or None if the map has no answer (WHATWG HTML, import maps)."""
    if specifier.startswith(("./", "../")):
        parts: list[str] = list(importer.parent.parts)
        for part in PurePosixPath(specifier).parts:
            if part == "..":
                parts.pop()
            else:
                parts.append(part)
        return PurePosixPath(*parts)
    imports: dict[str, str] = json.loads((STATIC / "importmap.json").read_text())["imports"]
    keys = [key for key in imports if key == specifier or (key.endswith("/") and specifier.startswith(key))]
    if not keys:
        return None
    longest = max(keys, key=len)
    url = imports[longest] + specifier.removeprefix(longest)
    return None if not url.startswith(("/vendor/", "/static/")) else PurePosixPath(url.removeprefix("/vendor/"))


def on_disk(path: PurePosixPath) -> Path:
    """The file behind a path below `/vendor/`, or behind `/static/...`."""
    return STATIC / path.relative_to("/static") if path.is_absolute() else MODULES / path


def reachable() -> dict[PurePosixPath | None, str]:
    """Every module reachable from ENTRIES, with the one that asked for it; None stands for an unresolved name."""
    found: dict[PurePosixPath | None, str] = {}
    open_ = [(entry, PurePosixPath("app.js")) for entry in ENTRIES]
    while open_:
        specifier, importer = open_.pop()
        path = resolve(specifier, importer)
        if path in found:
            continue
        found[path] = f"{specifier} in {importer}"
        if path is not None and on_disk(path).is_file():
            text = COMMENT.sub("", on_disk(path).read_text())
            open_ += [(name, path) for name in IMPORT.findall(text)]
    return found


def test_every_module_reachable_through_the_import_map_exists_and_is_allowed() -> None:
    allowed = json.loads((STATIC / "vendor.json").read_text())
    packages = tuple(f"{name}/" for name in allowed["packages"])
    suffixes = tuple(allowed["suffixes"])
    faults = []
    for path, why in reachable().items():
        if path is None:
            faults.append(f"not in the import map: {why}")
        elif not on_disk(path).is_file():
            faults.append(f"no such file {path}: {why}")
        elif (not path.is_absolute() and not str(path).startswith(packages)) or not path.name.endswith(suffixes):
            faults.append(f"not allowed by vendor.json {path}: {why}")
    assert not faults


def test_every_entry_of_the_import_map_and_of_the_allow_list_exists() -> None:
    imports = json.loads((STATIC / "importmap.json").read_text())["imports"]
    packages = json.loads((STATIC / "vendor.json").read_text())["packages"]
    targets = [on_disk(PurePosixPath(path.removeprefix("/vendor/"))) for path in imports.values()]
    assert [str(target) for target in targets if not target.exists()] == []
    assert [name for name in packages if not (MODULES / name / "package.json").is_file()] == []


def test_every_icon_that_replaces_a_built_in_one_exists() -> None:
    replaced = re.findall(r'^  "?[a-z-]+"?: "([a-z0-9-]+)",$', (STATIC / "icons.js").read_text(), re.MULTILINE)
    assert len(replaced) > 40
    assert [name for name in replaced if not (MODULES / f"bootstrap-icons/icons/{name}.svg").is_file()] == []


def test_the_lockfile_names_no_registry_and_package_json_no_ranges() -> None:
    assert '"resolved"' not in (STATIC / "package-lock.json").read_text()
    package = json.loads((STATIC / "package.json").read_text())
    versions = {**package["dependencies"], **package["devDependencies"]}
    assert [name for name, version in versions.items() if not re.fullmatch(r"\d+\.\d+\.\d+", version)] == []
