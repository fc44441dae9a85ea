# How pip is called in builds; other scripts read this one. A certificate authority and a
# configuration of the builder's own are secrets of the build: nothing of them stays in the image.
export PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
export PIP_PROGRESS_BAR=off PIP_NO_INPUT=1
# An argument that was not given is empty, which pip takes for an address.
[ "${PIP_INDEX_URL:-}" ] || unset PIP_INDEX_URL
[ "${PIP_EXTRA_INDEX_URL:-}" ] || unset PIP_EXTRA_INDEX_URL
[ ! -s /run/secrets/ca ] || export PIP_CERT=/run/secrets/ca
[ ! -s /run/secrets/pip ] || export PIP_CONFIG_FILE=/run/secrets/pip
