#!/bin/sh
# Environments of frameworks that live apart, built into the image: MXNet's, for one.
# Usage: environments.sh NAME,NAME...   makes /opt/modelyard/environments
set -eu
here="$(dirname "$0")"
. "$here/pip.sh"
mkdir -p /opt/modelyard/environments
touch -d @0 /opt/modelyard/environments
[ "$1" ] || exit 0
# Environments are built by the server's own code, so that it finds what it would have built.
/opt/modelyard/venv/bin/python "$here/environments.py" /opt/modelyard/environments "$1"
rm -f /opt/modelyard/environments/*.lock
for packages in /opt/modelyard/environments/*/lib; do
    sh "$here/finish.sh" "$packages"
done
