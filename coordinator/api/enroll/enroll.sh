#!/bin/sh
# Makes this machine a node of a Reeve coordinator: installs the agent and gives it an identity.
#
#   sh enroll.sh URL CA-SHA256 [ADDRESS]
#
# URL and CA-SHA256 are what "reeve-coordinator node enroll --token" says; the token is read from standard input. ADDRESS is
# where the coordinator reaches this machine, when that is not where its requests come from.
set -eu
umask 077

if [ $# -lt 2 ]; then
	echo "usage: sh enroll.sh URL CA-SHA256 [ADDRESS]" >&2
	exit 2
fi
url=$1
ca=$2
address=${3:-}
if [ "$(id -u)" != 0 ]; then
	echo "enroll.sh: root is needed" >&2
	exit 1
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
# What comes over a connection that proves nothing is proven by its checksum.
curl -fsS --insecure "$url/agent/ca.crt" -o "$dir/ca.crt"
if [ "$(sha256sum "$dir/ca.crt" | cut -d ' ' -f 1)" != "$ca" ]; then
	echo "enroll.sh: the authority of $url is not the one you were told; somebody may stand in between" >&2
	exit 1
fi

if command -v dpkg >/dev/null 2>&1; then
	file=reeve-agent.deb
	install() { DEBIAN_FRONTEND=noninteractive dpkg -i --force-confold "$1"; }
else
	file=reeve-agent.rpm
	install() { rpm -U --replacepkgs "$1"; }
fi
curl -fsS --cacert "$dir/ca.crt" "$url/agent/download/$file" -o "$dir/$file"
curl -fsS --cacert "$dir/ca.crt" "$url/agent/download/SHA256SUMS" -o "$dir/SHA256SUMS"
(cd "$dir" && grep "  $file\$" SHA256SUMS | sha256sum -c - >/dev/null)
install "$dir/$file" </dev/null

if [ -n "$address" ]; then
	exec reeve-agent enroll --url "$url" --ca-file "$dir/ca.crt" --address "$address"
fi
reeve-agent enroll --url "$url" --ca-file "$dir/ca.crt"
