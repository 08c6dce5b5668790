# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# Long work shows that it lives: what, how far, how long. Sourced after env.sh.

STEP_NUMBER=0
STEP_COUNT=${STEP_COUNT:-1}
LOGS=${LOGS:-$CACHE/log}

# stamp NAME / stamped NAME: a step that finished is not done again. The stamp
# carries the recipe's version, so that a changed recipe is carried out anew.
stamp()   { mkdir -p "$CACHE/stamp" && echo "$2" >"$CACHE/stamp/$1"; }
stamped() { [ "$(cat "$CACHE/stamp/$1" 2>/dev/null)" = "$2" ]; }

# step NAME VERSION ABOUT_SECONDS TEXT FUNCTION: runs FUNCTION unless its stamp exists; output goes
# to a log, and a line shows how long it has been running.
step() {
	local name=$1 version=$2 about=$3 text=$4 work=$5
	STEP_NUMBER=$((STEP_NUMBER + 1))
	local head="[$STEP_NUMBER/$STEP_COUNT] $text"
	if stamped "$name" "$version"; then
		note "$head: already there"
		return
	fi
	timed "$name" "$about" "$head" "$work"
	stamp "$name" "$version"
}

# timed NAME ABOUT_SECONDS HEAD FUNCTION: the part of step() that watches.
timed() {
	local name=$1 about=$2 head=$3 work=$4 log start status=0
	mkdir -p "$LOGS"
	log=$LOGS/$name.log
	start=$SECONDS
	say "$head (about $about s)"
	# A process group of its own: an interrupt ends all of it, so that nothing of it disturbs
	# the next try.
	set -m
	( "$work" ) >"$log" 2>&1 </dev/null &
	local pid=$!
	set +m
	# shellcheck disable=SC2064 # this group, now
	trap "kill -TERM -- -$pid 2>/dev/null; echo; exit 130" INT TERM HUP
	watch_work "$pid" "$start" "$about" "$log"
	wait "$pid" || status=$?
	trap - INT TERM HUP
	if [ "$status" != 0 ]; then
		tail -n 15 "$log" >&2
		die "$head failed after $((SECONDS - start)) s (status $status)" \
			"the whole log: $log" "after mending the cause run the same command: finished steps are kept"
	fi
	note "$head: done in $((SECONDS - start)) s"
}

watch_work() {
	local pid=$1 start=$2 about=$3 log=$4 every=20 shown=0 now
	while kill -0 "$pid" 2>/dev/null; do
		sleep 1
		now=$((SECONDS - start))
		if [ -t 1 ]; then
			printf '\r    %4d s of about %d s: %-50.50s' "$now" "$about" \
				"$(tail -n 1 "$log" 2>/dev/null | tr -cd '[:print:]')"
		elif [ $((now - shown)) -ge "$every" ]; then
			shown=$now
			note "$now s of about $about s: $(tail -n 1 "$log" | tr -cd '[:print:]' | cut -c1-70)"
		fi
	done
	[ ! -t 1 ] || printf '\r%78s\r' ''
}
