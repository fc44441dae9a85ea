#!/bin/sh
# Modelyard itself, apart from the packages that it needs: a change of it leaves their layer as it is.
# Usage: code.sh   in a directory with the source; makes /opt/modelyard/code
set -eu
here="$(dirname "$0")"
. "$here/pip.sh"
/opt/tools/bin/pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir /tmp/wheels .
/opt/modelyard/venv/bin/pip install --quiet --no-deps --no-index --target /opt/modelyard/code /tmp/wheels/*.whl
sh "$here/finish.sh" /opt/modelyard/code
