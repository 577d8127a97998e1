#!/usr/bin/env bash
# Sends a test picture with a tone as MPEG-TS over UDP: source.sh HOST PORT [PATTERN]
# Pattern `smpte` is a colour bar, which Glasswatch tells of; `ball` is fine.
set -euo pipefail
host=$1 port=$2 pattern=${3:-ball}
exec gst-launch-1.0 -q mpegtsmux name=mux alignment=7 ! udpsink host="$host" port="$port" \
  videotestsrc is-live=true pattern="$pattern" background-color=0xff405070 \
  ! video/x-raw,width=640,height=360,framerate=25/1 \
  ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=50 bitrate=800 threads=1 ! h264parse ! queue ! mux. \
  audiotestsrc is-live=true wave=ticks volume=0.3 ! audioconvert ! avenc_aac ! aacparse ! queue ! mux.
