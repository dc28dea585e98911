#!/bin/sh
# The Debian programs that tests use. `system.sh install [MORE...]` installs what is missing where we may (root and
# apt-get); `system.sh report [MORE...]` only says, by name, what is missing. Missing programs skip tests, never fail them.
set -eu

action=$1
shift
gstreamer="python3-gst-1.0 gir1.2-gst-plugins-bad-1.0 gstreamer1.0-nice gstreamer1.0-plugins-base gstreamer1.0-plugins-good
    gstreamer1.0-plugins-bad"

present() {
    case $1 in
    postgresql) ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null 2>&1 ;;
    fonts-noto-cjk) ls /usr/share/fonts/*/noto/NotoSansCJK* >/dev/null 2>&1 ;;
    python3-gst-1.0) ls /usr/lib/python3/dist-packages/gi/overrides/Gst.py >/dev/null 2>&1 ;;
    gir1.2-gst-plugins-bad-1.0) ls /usr/lib/*/girepository-1.0/GstWebRTC-1.0.typelib >/dev/null 2>&1 ;;
    gstreamer1.0-nice) ls /usr/lib/*/gstreamer-1.0/libgstnice.so >/dev/null 2>&1 ;;
    gstreamer1.0-plugins-base) ls /usr/lib/*/gstreamer-1.0/libgstopus.so >/dev/null 2>&1 ;;
    gstreamer1.0-plugins-good) ls /usr/lib/*/gstreamer-1.0/libgstvpx.so >/dev/null 2>&1 ;;
    gstreamer1.0-plugins-bad) ls /usr/lib/*/gstreamer-1.0/libgstwebrtc.so >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

missing() {
    for name in chromium firefox-esr redis-server postgresql fonts-noto-cjk strace $gstreamer "$@"; do
        present "$name" || printf '%s ' "$name"
    done
}

absent=$(missing "$@")
if [ "$action" = install ] && [ -n "$absent" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing $absent" >&2
    export DEBIAN_FRONTEND=noninteractive
    # One by one: a package this distribution doesn't have must not take the others with it.
    if apt-get update -qq >&2; then
        for name in $absent; do
            apt-get install -y -qq --no-install-recommends "$name" >/dev/null || echo "apt-get could not install $name" >&2
        done
    fi
    absent=$(missing "$@")
fi
if [ -n "$absent" ]; then
    echo "SKIPPED (not installed): $absent"
fi
