say() {
	printf '%s %s: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$host" "$1" | tee -a "$state/log" >&2
}

# stop ends the script; what has been done is kept, and the next run goes on behind it.
stop() {
	say "STOPPED: $1"
	if [ "${again-}" = yes ]; then
		say "a run before was cut short in this step; when it has been done ($check), say so: DONE=$step $0 ..."
	fi
	if [ -n "${if_not-}" ]; then
		say "what to do: $if_not"
	fi
	if [ "${again-}" = no ] && [ -n "${step-}" ]; then
		rm -f "$state/$step.begun"
	fi
	exit 1
}

# begin says whether a step is still to be done.
begin() {
	step=$1
	if_not=$4
	if [ -e "$state/$step" ]; then
		return 1
	fi
	say "$step: $2"
	check=$3
	if [ "${DONE-}" = "$step" ]; then
		say "taken as done by DONE=$step"
		ended
		return 1
	fi
	again=no
	if [ -e "$state/$step.begun" ]; then
		again=yes
	fi
	: >"$state/$step.begun"
}

ended() {
	: >"$state/$step"
	rm -f "$state/$step.begun"
	if_not=
	again=no
}

# run runs a command and keeps what it says.
run() {
	say "+ $*"
	if "$@" >"$state/out" 2>&1; then
		cat "$state/out" >>"$state/log"
		return
	fi
	tee -a "$state/log" <"$state/out" >&2
	stop "that failed"
}

if_there() {
	if command -v "$1" >/dev/null 2>&1; then
		run "$@"
	else
		say "there is no $1 on this host: passed over"
	fi
}

# expect SECONDS TEXT COMMAND... repeats a command until it succeeds and says TEXT.
expect() {
	left=$1
	text=$2
	shift 2
	repeat says "$@"
	tee -a "$state/log" <"$state/out" >&2
}

# expect_nothing SECONDS COMMAND... repeats a command until it succeeds and says nothing.
expect_nothing() {
	left=$1
	shift
	repeat is_silent "$@"
}

says() {
	case $(cat "$state/out") in
	*"$text"*) ;;
	*) return 1 ;;
	esac
}

is_silent() {
	! [ -s "$state/out" ]
}

# repeat TEST COMMAND... repeats a command until it succeeds and what it says passes the
# test, for as many seconds as are left.
repeat() {
	passes=$1
	shift
	say "+ $*"
	while :; do
		if "$@" >"$state/out" 2>&1 && "$passes"; then
			return
		fi
		if [ "$left" -le 0 ]; then
			break
		fi
		left=$((left - 1))
		sleep 1
	done
	tee -a "$state/log" <"$state/out" >&2
	stop "expected: $check"
}

# to_file FILE COMMAND... writes the file as a whole or not at all.
to_file() {
	file=$1
	shift
	say "+ $* >$file"
	if "$@" >"$file.part" 2>"$state/out"; then
		mv "$file.part" "$file"
		return
	fi
	tee -a "$state/log" <"$state/out" >&2
	stop "that failed"
}

# append_to FILE COMMAND... adds what the command says to the file, all of it or nothing.
append_to() {
	file=$1
	shift
	say "+ $* >>$file"
	cp -p -- "$file" "$file.part" || stop "$file cannot be copied"
	if "$@" >>"$file.part" 2>"$state/out"; then
		mv "$file.part" "$file"
		return
	fi
	rm -f "$file.part"
	tee -a "$state/log" <"$state/out" >&2
	stop "that failed"
}

in_background() {
	output=$1
	pid_file=$2
	shift 2
	say "+ $* >>$output &"
	nohup "$@" >>"$output" 2>&1 &
	echo "$!" >"$pid_file"
}

# by_hand waits for a person. CONFIRM=yes says that all of it has been done.
by_hand() {
	say "by hand: $check"
	if [ "${CONFIRM-}" = yes ]; then
		say "confirmed by CONFIRM=yes"
		return
	fi
	if ! [ -t 0 ]; then
		stop "this is done by hand; run the script from a terminal, or again with CONFIRM=yes when it has been done"
	fi
	printf 'done? type yes: ' >&2
	read -r answer
	if [ "$answer" != yes ]; then
		stop "not confirmed"
	fi
}

clear_rest() {
	if [ -e "$1" ]; then
		say "removing what an attempt before has left: $1"
		rm -rf "$1"
	fi
}

# refuse_in_use stops when a process holds the database: bbolt locks it as long as it is
# open, whatever path or container that is in.
refuse_in_use() {
	if ! [ -e "$1" ]; then
		return 0
	fi
	if command -v flock >/dev/null 2>&1; then
		if ! flock -n "$1" true; then
			stop "$1 is in use: etcd still runs on it"
		fi
	elif command -v fuser >/dev/null 2>&1; then
		if fuser "$1" >/dev/null 2>&1; then
			stop "$1 is in use: etcd still runs on it"
		fi
	else
		stop "neither flock nor fuser is on this host, so nothing shows whether $1 is in use"
	fi
}

refuse_existing() {
	if [ -e "$1" ] || [ -L "$1" ]; then
		stop "$1 exists"
	fi
}

# refuse_missing stops when there is nothing: etcd would begin a new, empty cluster.
refuse_missing() {
	if ! [ -e "$1" ]; then
		stop "$1 is not there"
	fi
}

refuse_other_digest() {
	digest=$(sha256sum <"$1") || stop "$1 cannot be read"
	if [ "${digest%% *}" != "$2" ]; then
		stop "$1 is not the file of the plan: its digest is ${digest%% *}, not $2"
	fi
}

# first_bytes SEGMENT says what a segment of a log begins with. Its first records, of
# which one names member and cluster, lie in the first 512 bytes.
first_bytes() {
	printf ' %s' "$(od -An -v -tx1 -N512 "$1" | tr -s ' \n' '  ')"
}

# refuse_other_member DIR BYTES... stops when a log is of a member of another host.
refuse_other_member() {
	dir=$1
	shift
	for segment in "$dir"/*.wal; do
		if ! [ -e "$segment" ]; then
			continue
		fi
		first=$(first_bytes "$segment")
		for bytes in "$@"; do
			case $first in
			*"$bytes"*) stop "$segment is of another member of the plan: this is not the host of $host" ;;
			esac
		done
	done
}

# refuse_foreign DIR BYTES... stops when a log is of a cluster that was not expected.
refuse_foreign() {
	dir=$1
	shift
	for segment in "$dir"/*.wal; do
		if ! [ -e "$segment" ]; then
			continue
		fi
		first=$(first_bytes "$segment")
		known=no
		for bytes in "$@"; do
			case $first in *"$bytes"*) known=yes ;; esac
		done
		if [ "$known" = no ]; then
			stop "$segment is of another cluster than the plan: is this the right host?"
		fi
	done
}

main() {
	if [ $# -eq 0 ]; then
		echo "usage: $0 PHASE...   phases of $host, in their order: $phases" >&2
		echo "No host begins a phase before all have ended the one before." >&2
		exit 2
	fi
	for phase in "$@"; do
		case " $phases " in
		*" $phase "*) ;;
		*)
			echo "$0: there is no phase $phase; phases of $host: $phases" >&2
			exit 2
			;;
		esac
	done
	# etcdctl ends when a flag and the environment say the same thing, and speaks another
	# API when that asks for version 2.
	unset ETCDCTL_ENDPOINTS ETCDCTL_API
	umask 077
	mkdir -p "$work" "$state"
	for phase in "$@"; do
		for before in $phases; do
			if [ "$before" = "$phase" ]; then
				break
			fi
			if ! [ -e "$state/$before" ]; then
				stop "phase $phase comes after $before, which has not ended on this host"
			fi
		done
		"phase_$phase"
		: >"$state/$phase"
		say "phase $phase has ended"
	done
}
