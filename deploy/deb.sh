#!/usr/bin/env bash
# Builds the Debian package: deploy/deb.sh [FEATURES]   (default: aws)
# It holds the binary, the systemd unit, a configuration to begin with, and the notice of licences. The unit is neither
# enabled nor started: there are streams to be written down first.
set -euo pipefail
cd "$(dirname "$0")/.."
features=${1-aws}
CARGO_DEB=3.8.0
if ! cargo deb --version >/dev/null 2>&1; then
  echo "cargo-deb is missing: cargo install --locked cargo-deb@$CARGO_DEB" >&2
  exit 1
fi
target=${CARGO_TARGET_DIR:-target}
cargo build --release --locked --features "$features" --bin glasswatch
python3 deploy/image/notice.py --features "$features" --target "$(uname -m)-unknown-linux-gnu" >"$target/release/NOTICE"
cargo deb --locked --no-build --features "$features"
