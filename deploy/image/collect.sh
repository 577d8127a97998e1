#!/usr/bin/env bash
# Collects what the daemon needs at run time below ROOT: programs, listed plugins, the libraries of both, certificates.
# Of every package that a file is from: its copyright, and its entry for those who scan images for known weaknesses.
#   collect.sh ROOT BASE_PACKAGES ELEMENTS PROGRAM...
#     BASE_PACKAGES  names of the packages that are in the base image anyway, one a line
#     ELEMENTS       the list of plugins
set -euo pipefail
root=$1 base=$2 elements=$3
shift 3
programs=("$@")
lib=/usr/lib/$(uname -m)-linux-gnu

plugins=()
while read -r plugin _; do
  case $plugin in "" | \#*) continue ;; esac
  plugins+=("$lib/gstreamer-1.0/$plugin")
done <"$elements"
# TLS for RTMPS and RTSPS.
modules=("$lib/gio/modules/libgiognutls.so")

# `ldd` lists libraries of libraries too.
libraries() {
  ldd "$@" | awk '/=> not found/ { print "missing: " $1 >"/dev/stderr"; bad = 1 } $2 == "=>" && $3 ~ /^\// { print $3 }
                  END { exit bad }' | sort -u
}

package_of() {
  local real
  real=$(readlink -f "$1")
  dpkg-query -S "*/${real##*/}" 2>/dev/null | awk -F': ' -v real="$real" '
    { path = $2; sub(/^\/lib/, "/usr/lib", path); sub(/^\/bin/, "/usr/bin", path)
      if (path == real) { sub(/:.*/, "", $1); print $1; exit } }'
}

take() {
  # /lib is a link to /usr/lib; a folder of that name would take its place.
  local to
  to=$root$(readlink -f "$(dirname "$1")")
  mkdir -p "$to"
  cp -L --preserve=mode,timestamps "$1" "$to/"
}

mkdir -p "$root/var/lib/dpkg/status.d" "$root/usr/share/doc/glasswatch"
packages=()
for file in "${programs[@]}" "${plugins[@]}" "${modules[@]}" $(libraries "${programs[@]}" "${plugins[@]}" "${modules[@]}"); do
  package=$(package_of "$file" || true)
  if [ -z "$package" ]; then
    [[ $file = */glasswatch ]] || { echo "$file is of no package" >&2; exit 1; }
  elif grep -qx "$package\(:.*\)\?" "$base"; then
    continue
  else
    packages+=("$package")
  fi
  take "$file"
done
take /etc/ssl/certs/ca-certificates.crt
packages+=(ca-certificates)

for package in $(printf '%s\n' "${packages[@]}" | sort -u); do
  dpkg-query -s "$package" >"$root/var/lib/dpkg/status.d/$package"
  mkdir -p "$root/usr/share/doc/$package"
  cp -L "/usr/share/doc/$package/copyright" "$root/usr/share/doc/$package/"
  dpkg-query -W -f '${Package} ${Version}\n' "$package"
done >"$root/usr/share/doc/glasswatch/packages"
echo "$(find "$root" -type f | wc -l) files, $(du -sm "$root" | cut -f1) MB, of $(wc -l <"$root/usr/share/doc/glasswatch/packages") packages"
