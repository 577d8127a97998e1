#!/usr/bin/env bash
# Installs what a bare Debian 12 lacks for building and running. Sourced by ./run and ./test.
# Says first what it will install; does nothing when nothing is missing.

MIN_RUST=1.95

BUILD_PACKAGES=(
  build-essential pkg-config ca-certificates
  libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev
  gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
  gstreamer1.0-plugins-ugly gstreamer1.0-libav glib-networking
)
# Only the tests need these: a stock player's toolbox, an RTMP and an RTSP server as peers, the metrics linter, a tracer that
# lets system calls fail, a browser with a font for the page, what checks units, and etcd with what its client is built with.
TEST_PACKAGES=(
  gstreamer1.0-tools ffmpeg nginx-light libnginx-mod-rtmp python3-gi gir1.2-gst-rtsp-server-1.0 prometheus
  strace chromium-headless-shell fonts-dejavu-core python3-venv systemd
  etcd-server etcd-client protobuf-compiler libprotobuf-dev
)

have_package() {
  dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed
}

have_rust() {
  local version
  version=$(rustc --version 2>/dev/null | awk '{print $2}') && command -v cargo >/dev/null || return 1
  [ "$(printf '%s\n%s\n' "$MIN_RUST" "${version%%-*}" | sort -V | head -n 1)" = "$MIN_RUST" ]
}

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# setup_python NAME REQUIREMENTS: programs of Python with pinned versions, beside what is built. For the tests only.
setup_python() {
  local wanted=$2 place="${CARGO_TARGET_DIR:-target}/$1"
  cmp -s "$wanted" "$place/installed.txt" && return
  echo "Installing into $place: $(grep "^$1=" "$wanted") and what it needs"
  rm -rf "$place"
  python3 -m venv "$place" || return 1
  "$place/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: -r "$wanted" || return 1
  cp "$wanted" "$place/installed.txt"
}

# setup build|test
setup() {
  local wanted=("${BUILD_PACKAGES[@]}") missing=() package
  [ "$1" = test ] && wanted+=("${TEST_PACKAGES[@]}")
  have_rust || wanted+=(rustc-web cargo-web)
  for package in "${wanted[@]}"; do
    have_package "$package" || missing+=("$package")
  done
  if [ "${#missing[@]}" -gt 0 ]; then
    if ! command -v apt-get >/dev/null; then
      echo "This machine has no apt-get. Install by hand: GStreamer 1.22+ with -base -good -bad -ugly and libav," >&2
      echo "its development files, a C compiler, pkg-config and Rust $MIN_RUST or newer." >&2
      return 1
    fi
    echo "Installing Debian packages: ${missing[*]}"
    as_root apt-get update -qq || return 1
    # Some packages would start servers of their own; only their programs are wanted.
    as_root env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
      apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || return 1
    local service
    for package in prometheus nginx-light etcd-server; do
      service=${package%-light}
      service=${service%-server}
      if printf '%s\n' "${missing[@]}" | grep -qx "$package" && command -v systemctl >/dev/null; then
        as_root systemctl disable --now "$service" >/dev/null 2>&1 || true
      fi
    done
  fi
  if [ "$1" = test ]; then
    setup_python moto tests/aws/requirements.txt || return 1 # emulates Amazon's services
    setup_python cfn-lint tests/deploy/requirements.txt || return 1
  fi
  have_rust || {
    echo "Rust $MIN_RUST or newer is needed; found: $(rustc --version 2>/dev/null || echo none)." >&2
    return 1
  }
}
