#!/bin/sh
# The packages of Modelyard and of the extras, at the versions of constraints.txt, and a list of them.
# Usage: packages.sh EXTRA,EXTRA...   in a directory with pyproject.toml and constraints.txt
# Makes /opt/modelyard/venv and /opt/modelyard/sbom.cdx.json, and /opt/tools, which only builds use.
set -eu
here="$(dirname "$0")"
. "$here/pip.sh"
python3 -m venv /opt/tools
python3 -m venv /opt/modelyard/venv
/opt/tools/bin/pip install -r "$here/tools.txt"
/opt/tools/bin/python "$here/requirements.py" pyproject.toml "$1" >/tmp/requirements.txt
if grep -q '^torch' /tmp/requirements.txt; then
    # Only for it: what is not on that index need not be looked for there.
    export PIP_EXTRA_INDEX_URL="${PIP_EXTRA_INDEX_URL:-} ${TORCH_INDEX_URL:-}"
fi
/opt/modelyard/venv/bin/pip install --constraint constraints.txt --requirement /tmp/requirements.txt
/opt/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
    --output-file /opt/modelyard/sbom.cdx.json /opt/modelyard/venv/bin/python
for packages in /opt/modelyard/venv/lib/python3*/site-packages; do
    echo /opt/modelyard/code >"$packages/modelyard.pth" # its own code is another layer
done
sh "$here/finish.sh" /opt/modelyard/venv/lib
touch -hd @0 /opt/modelyard/sbom.cdx.json
