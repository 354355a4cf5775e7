#!/usr/bin/env bash
# Sends a stream to castlog until it is interrupted.
#
#   tools/push.sh [FILE] [KEY]
#
# FILE   is sent over and over; without one, a moving picture with a clock and a tone
# KEY    the publish key (ck_…), else CASTLOG_PUBLISH_KEY; without either, a
#        broadcast is created with the admin token of the running castlog
#
# CASTLOG_RTMP_URL (rtmp://127.0.0.1:1935/live) and CASTLOG_API_URL
# (http://127.0.0.1:8080) say where castlog is.
set -euo pipefail

# shellcheck source=tools/env.sh
source "$(dirname "$0")/env.sh"
load_env
export CASTLOG_API_URL=${CASTLOG_API_URL:-http://127.0.0.1:8080}
rtmp=${CASTLOG_RTMP_URL:-rtmp://127.0.0.1:1935/live}

file=
key=${CASTLOG_PUBLISH_KEY-}
for argument in "$@"; do
  case $argument in
    ck_*) key=$argument ;;
    *) file=$argument ;;
  esac
done
if [[ -n $file && ! -r $file ]]; then
  echo "castlog: cannot read $file" >&2
  exit 1
fi

if [[ -z $key ]]; then
  title="Test picture"
  if [[ -n $file ]]; then
    title=$(basename "$file")
  fi
  created=$(python3 "$(dirname "$0")/create-broadcast.py" "$title")
  read -r broadcast key <<<"$created"
  echo "broadcast    $broadcast"
  echo "publish key  $key"
  echo "watch        $CASTLOG_API_URL/watch/$broadcast"
fi

codec_of() { # v or a
  ffprobe -v error -select_streams "$1:0" -show_entries stream=codec_name,pix_fmt -of csv=p=0 "$file" | head -n 1
}

# A keyframe every two seconds, none between: what a segment needs.
x264=(-c:v libx264 -preset veryfast -tune zerolatency -pix_fmt yuv420p -b:v 2500k -maxrate 2500k -bufsize 2500k
  -force_key_frames 'expr:gte(t,n_forced*2)' -g 600 -sc_threshold 0)
aac=(-c:a aac -b:a 128k -ar 48000 -ac 2)

if [[ -n $file ]]; then
  input=(-re -stream_loop -1 -i "$file" -map '0:v:0?' -map '0:a:0?')
  video=("${x264[@]}")
  audio=("${aac[@]}")
  [[ $(codec_of v) == h264,yuv420p ]] && video=(-c:v copy)
  [[ $(codec_of a) == aac* ]] && audio=(-c:a copy)
else
  picture='testsrc2=size=1280x720:rate=30'
  # The time of day, to read the latency off the screen, where there is a font.
  clock="drawtext=text='%{localtime\\:%T}':x=(w-tw)/2:y=h-th-40:fontsize=72:fontcolor=white:box=1:boxcolor=black@0.6:boxborderw=12"
  if ffmpeg -v quiet -f lavfi -i "color=size=64x64,$clock" -frames:v 1 -f null - </dev/null; then
    picture+=",$clock"
  fi
  input=(-re -f lavfi -i "$picture" -f lavfi -i 'sine=frequency=330:beep_factor=4:sample_rate=48000')
  video=("${x264[@]}")
  audio=("${aac[@]}")
fi

echo "sending ${file:-a test picture} to $rtmp; Ctrl-C stops"
stats=-nostats
[[ -t 2 ]] && stats=-stats
exec ffmpeg -hide_banner -loglevel warning "$stats" -nostdin "${input[@]}" "${video[@]}" "${audio[@]}" -f flv -flvflags no_duration_filesize "$rtmp/$key"
