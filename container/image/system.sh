#!/bin/sh
# What the image needs of its system: Python with venv, OpenMP for LightGBM and MXNet, and for the
# latter a library of Fortran's that there is on x86 only, as MXNet is.
# Bases that have it all are left as they are. Usage: system.sh
set -eu
missing=""
python3 -c 'import ensurepip, venv' 2>/dev/null || missing="python3 python3-venv"
ldconfig -p | grep -q 'libgomp\.so\.1' || missing="$missing libgomp1"
if [ "$(uname -m)" = x86_64 ]; then
    ldconfig -p | grep -q 'libquadmath\.so\.0' || missing="$missing libquadmath0"
fi
if [ "$missing" ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    # shellcheck disable=SC2086 # names of packages
    apt-get install -q -y --no-install-recommends $missing
    apt-get clean
    # Lists and logs differ from day to day.
    rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log /var/log/alternatives.log \
        /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old /usr/share/doc/* /usr/share/man/*
fi
python3 -c 'import sys; assert sys.version_info >= (3, 11), f"Python {sys.version} is too old"'
