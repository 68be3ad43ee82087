#!/bin/sh
# Installs the agent of the muster server that this comes from, and makes this device a member of its fleet:
#
#     curl -fsS --tlsv1.3 -k --pinnedpubkey '@PINS@' 'https://@HOST@/install' | MUSTER_TOKEN=TOKEN sh
#
# as root. Options behind 'sh -s --' go to 'muster-agent enroll', such as --name kiosk-17; in the first
# place, --root DIR installs into a tree of files. A failure before the device is enrolled leaves nothing.
# All of it is in a function that the last line calls, and half of that line is none: cut off on its way,
# this does nothing.

muster_install() {
	set -eu
	server='@SERVER@'
	url='https://@HOST@/install/agent'
	pins='@PINS@'
	release_key='@RELEASE_KEY@'
	root=''
	if [ "${1:-}" = --root ]; then
		root=${2:?"--root needs a directory"}
		shift 2
	fi

	fail() {
		echo "muster: $*" >&2
		exit 1
	}
	[ -n "${MUSTER_TOKEN:-}" ] || fail "there is no token: … | MUSTER_TOKEN=TOKEN sh ('musterctl token create' makes one)"
	[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "only root installs the agent: … | sudo MUSTER_TOKEN=TOKEN sh"
	[ "$(uname -s)" = Linux ] || fail "there is no agent for $(uname -s) here"
	machine=$(uname -m)
	case $machine in
	amd64) machine=x86_64 ;;
	arm64) machine=aarch64 ;;
	armv7* | armv8l) machine=armv7 ;;
	esac
	case $machine in
@AGENTS@	*) fail "the server has no agent for $machine (it has: @MACHINES@): put muster-agent-$machine into its [admin] agents" ;;
	esac
	command -v sha256sum >/dev/null || fail "sha256sum is needed: install it (coreutils)"

	work=$(mktemp -d)
	agent="$work/muster-agent"
	# What was there before stays there.
	purge=--purge
	for kept in /etc/muster/muster-agent.toml /var/lib/muster-agent /etc/muster/agent; do
		if [ -e "$root$kept" ]; then purge=''; fi
	done
	was_there=no
	for program in /usr/local/bin/muster-agent /usr/bin/muster-agent; do
		if [ -e "$root$program" ]; then was_there=yes; fi
	done
	undo=no
	ended() {
		code=$?
		trap - EXIT
		if [ "$undo" = yes ]; then
			# shellcheck disable=SC2086
			"$agent" uninstall $purge ${root:+--root "$root"} >/dev/null 2>&1 </dev/null || true
		fi
		rm -rf "$work"
		exit "$code"
	}
	trap ended EXIT
	trap 'exit 1' HUP INT TERM

	if command -v curl >/dev/null; then
		curl -fsS --tlsv1.3 -k --pinnedpubkey "$pins" --retry 3 -o "$agent" "$url/$sha256" || fail "the agent can't be fetched"
	elif wget --help 2>&1 | grep -q -e --pinnedpubkey; then
		wget -q --no-check-certificate --pinnedpubkey="$pins" -O "$agent" "$url/$sha256" || fail "the agent can't be fetched"
	else
		fail "curl is needed, or GNU wget: install one of them"
	fi
	echo "$sha256  $agent" | sha256sum -c >/dev/null 2>&1 || fail "what came is not the agent: its SHA-256 is another"
	chmod 700 "$agent"
	"$agent" --version >/dev/null </dev/null || fail "the agent does not run here; if programs may not run in $work, set TMPDIR"

	if [ "$was_there" = no ]; then undo=yes; fi
	"$agent" install ${root:+--root "$root"} >/dev/null </dev/null
	config="$root/etc/muster/muster-agent.toml"
	data=$(sed -n 's/^data = "\(.*\)"$/\1/p' "$config")
	"$agent" enroll --server "$server" --config "$config" --data "$root$data" \
		${release_key:+--release-key "$release_key"} "$@" >"$work/said" </dev/null
	undo=no
	sed '/^start the agent/d' "$work/said"
	# Once more: now there is something to start.
	"$agent" install ${root:+--root "$root"} </dev/null
}

{ muster_install "$@"; }
