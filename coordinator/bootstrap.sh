#!/bin/sh
# Makes this machine a node: installs the agent beside this script and exchanges a one-time token for an identity.
#
#   tar xzf ConPaaS.tar.gz && echo TOKEN | sh ConPaaS/bootstrap.sh URL [ADDRESS]
#
# URL is the coordinator's, and the token what "reeve-coordinator node enroll --token" says. ADDRESS is where the coordinator
# reaches this machine, when that is not where its requests come from. Whether the archive is the Director's own, this says:
#
#   openssl x509 -in CA_CERT -pubkey -noout >key && openssl dgst -sha256 -verify key -signature SHA256SUMS.sig SHA256SUMS
#
# where CA_CERT is the ca_cert.pem that the Director gave to its users.
set -eu
umask 077
if [ $# -lt 1 ]; then
	echo "usage: sh bootstrap.sh URL [ADDRESS], with the token on standard input" >&2
	exit 2
fi
if [ "$(id -u)" != 0 ]; then
	echo "bootstrap.sh: root is needed" >&2
	exit 1
fi
cd "$(dirname "$0")"
sha256sum --check --strict --quiet SHA256SUMS
DEBIAN_FRONTEND=noninteractive dpkg -i --force-confold reeve-agent.deb </dev/null
if [ -n "${2:-}" ]; then
	exec reeve-agent enroll --url "$1" --ca-file ca.crt --address "$2"
fi
exec reeve-agent enroll --url "$1" --ca-file ca.crt
