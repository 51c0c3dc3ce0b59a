#!/bin/sh
# ./follow.sh http://127.0.0.1:5000: prints changes of orders as JSON lines, with curl and sed.
# It comes back when the connection ends, and goes on where it was.
address=$1
place=$(mktemp)
trap 'rm -f "$place"' EXIT
while :; do
  cursor=$(cat "$place")
  curl -sSN --fail --speed-limit 1 --speed-time 45 -H "Last-Event-ID: $cursor" "$address/pgevents/stream?table=orders" |
    while IFS= read -r line; do
      case $line in
        "id: "*) cursor=${line#id: } ;;
        "event: "*) event=${line#event: } ;;
        "data: "*)
          case $event in insert | update | delete | truncate | gap) printf '%s\n' "${line#data: }" ;; esac
          printf '%s' "$cursor" >"$place" ;;
      esac
    done
  sleep 1
done
