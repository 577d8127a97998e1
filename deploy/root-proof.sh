#!/usr/bin/env bash
# Proves deploy/Dockerfile where no container engine runs: carries out its steps in fresh Debian roots, then starts the last
# stage as a container would be (its user, no capabilities, a read-only root, a network of its own) and asks its health check.
# Run by hand as root, with debootstrap installed and some 6 GB free:
#   deploy/root-proof.sh FOLDER            builds everything, compiler included
#   deploy/root-proof.sh FOLDER BINARY     takes a binary that was built for Debian 12 instead of compiling
# CA=FILE: a further certificate to trust in the roots, where a proxy has one of its own.
# Stages that the last one does not copy from are left out; STAGES="source" adds them. What `docker build` does beside its
# steps (layers, caches, metadata of the image) is not proved.
set -euo pipefail
if [ -z "${PROOF_INSIDE:-}" ]; then
  # Mounts and processes end with the script.
  PROOF_INSIDE=1 exec unshare --mount --pid --fork --kill-child --mount-proc "$0" "$@"
fi
repository=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mkdir -p "$1" && cd "$1" && pwd)
binary=${2:+$(realpath "$2")}
mirror=${MIRROR:-http://deb.debian.org/debian}
security=${SECURITY_MIRROR:-http://deb.debian.org/debian-security}
say() { printf '== %s\n' "$*"; }

if [ ! -e "$folder/base.done" ]; then
  say "base: bookworm by debootstrap"
  debootstrap --variant=minbase bookworm "$folder/base" "$mirror" >"$folder/debootstrap.log"
  {
    echo "deb $mirror bookworm main"
    echo "deb $mirror bookworm-updates main"
    echo "deb $security bookworm-security main"
  } >"$folder/base/etc/apt/sources.list"
  touch "$folder/base.done"
fi

# One stage: its root, and what holds for the steps to come.
declare -A args
declare -a variables
begin() {
  stage=$1 root=$folder/$1 workdir=/ user= health= volumes=() variables=()
  rm -rf --one-file-system "$root"
  cp -a "$folder/base" "$root"
  cp -L /etc/resolv.conf "$root/etc/resolv.conf"
  # Taken up when the certificates are installed.
  [ -z "${CA:-}" ] || install -D -m 0644 "$CA" "$root/usr/local/share/ca-certificates/proof.crt"
  mount -t proc proc "$root/proc"
  mount --bind /dev "$root/dev"
}

finish() {
  umount "$root/proc" "$root/dev"
}

run() {
  local pass=() name
  for name in "${!args[@]}"; do pass+=("$name=${args[$name]}"); done
  for name in http_proxy https_proxy; do [ -z "${!name:-}" ] || pass+=("$name=${!name}"); done
  chroot "$root" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    DEBIAN_FRONTEND=noninteractive "${variables[@]}" "${pass[@]}" sh -c "cd $workdir && $1" >>"$folder/$stage.log" 2>&1 ||
    { tail -n 20 "$folder/$stage.log" >&2; say "failed: $1"; exit 1; }
}

copy() {
  local from=$repository words=()
  read -ra words <<<"$1"
  if [[ ${words[0]} = --from=* ]]; then
    from=$folder/${words[0]#--from=}
    words=("${words[@]:1}")
  fi
  local source=$from/${words[0]} to=${words[1]}
  [[ $to = /* ]] || to=$workdir/$to
  if [ "$from" = "$repository" ] && [ "${words[0]}" = . ]; then
    (cd "$repository" && git ls-files -z --cached --others --exclude-standard | tar --null -T - -c) | tar -x -C "$root$to"
  elif [ -d "$source" ]; then
    mkdir -p "$root$to" && cp -a "$source/." "$root$to/"
  else
    mkdir -p "$(dirname "$root$to")" && cp -a "$source" "$root$to"
  fi
}

step() {
  local word=${1%% *} rest=${1#* }
  say "$stage: ${1:0:100}"
  case $word in
    ARG) args[${rest%%=*}]=$(eval "echo ${rest#*=}") ;;
    ENV) eval "variables+=($rest)" ;;
    RUN) run "$rest" ;;
    COPY) copy "$rest" ;;
    WORKDIR) workdir=$rest && mkdir -p "$root$workdir" ;;
    USER) user=$rest ;;
    VOLUME) mapfile -t volumes < <(python3 -c 'import json, sys; print(*json.loads(sys.argv[1]), sep="\n")' "$rest") ;;
    HEALTHCHECK) health=${rest#*CMD } ;;
    EXPOSE | STOPSIGNAL | ENTRYPOINT | CMD) ;;
    *) say "unknown step: $1" && exit 1 ;;
  esac
}

# Steps, one a line: comments gone, continued lines joined.
steps() {
  sed -e '/^[[:space:]]*#/d' "$repository/deploy/Dockerfile" | sed -e ':a' -e '/\\$/N; s/\\\n[[:space:]]*/ /; ta' | sed '/^$/d'
}

skip=yes
while read -r line; do
  case $line in
    "ARG BASE="*) ;;
    "FROM "*)
      [ "$skip" = yes ] || finish
      name=${line##* AS } && [[ $line = *" AS "* ]] || name=image
      skip=no
      if [ "$name" = build ] && [ -n "$binary" ]; then
        say "build: not carried out, $binary is taken"
        mkdir -p "$folder/build/src/target/release"
        cp "$binary" "$folder/build/src/target/release/glasswatch"
        (cd "$repository" && python3 deploy/image/notice.py) >"$folder/build/NOTICE"
        skip=yes
      elif [ "$name" = source ] && [[ " ${STAGES:-} " != *" source "* ]]; then
        skip=yes
      else
        begin "$name"
      fi
      ;;
    *) [ "$skip" = yes ] || step "$line" ;;
  esac
done < <(steps)
finish
say "image: $(du -sm --one-file-system "$root" | cut -f1) MB, $(find "$root/usr/lib" -path '*/gstreamer-1.0/*.so' | wc -l) plugins"

say "start: user $user, read-only root, no capabilities"
printf 'version: 1\ninstance: {data_dir: /var/lib/glasswatch}\nhttp: {token: "${TOKEN}"}\nstreams: []\n' \
  >"$root/etc/glasswatch/glasswatch.yaml"
mount --bind "$root" "$root"
mount -o remount,ro,bind "$root"
mount -t proc proc "$root/proc"
for volume in "${volumes[@]}"; do
  mode=$(stat -c 'mode=%a,uid=%u,gid=%g' "$root$volume")
  mount -t tmpfs -o "$mode" tmpfs "$root$volume"
done
mount --bind /dev/null "$root/dev/null" 2>/dev/null || mount --bind /dev "$root/dev"

inside() {
  chroot "$root" setpriv --reuid="${user%:*}" --regid="${user#*:}" --clear-groups --no-new-privs --bounding-set=-all \
    --inh-caps=-all env -i -C "$workdir" PATH=/usr/local/bin:/usr/bin:/bin TOKEN=of-the-proof "${variables[@]}" "$@"
}
proof() {
  ip link set lo up
  inside tini -s -- glasswatch run 2>"$folder/run.log" &
  local pid=$! i
  mapfile -t check < <(python3 -c 'import json, sys; print(*json.loads(sys.argv[1]), sep="\n")' "$health")
  for i in $(seq 30); do
    if inside "${check[@]}" 2>/dev/null; then break; fi
    sleep 1
  done
  inside "${check[@]}" || { tail "$folder/run.log" >&2; say "unhealthy"; exit 1; }
  say "healthy after $i s"
  if inside touch /usr/written 2>/dev/null; then say "the root can be written"; exit 1; fi
  inside glasswatch doctor | grep elements
  kill -TERM "$(pgrep -x glasswatch)"
  wait "$pid" || { say "ended with $?"; exit 1; }
  say "stopped on SIGTERM"
}
# A network of its own, with nothing but loopback.
nsenter_free() {
  local file=$folder/proof.sh
  { declare -p folder root user workdir health variables; declare -f say inside proof; echo "set -euo pipefail; proof"; } >"$file"
  unshare --net bash "$file"
}
nsenter_free
say "proved"
