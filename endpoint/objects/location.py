"""Where a model's object is: below its container's ``ModelDataUrl``, and nowhere else."""

from __future__ import annotations


def location(prefix: str, target: str) -> str:
    """The URL of ``target``, a path without ``..``; "" for the folder that holds them all.

    There is always a "/" between the two: a prefix is a whole bucket, or ends where a folder does.
    Else the target could go on with the name of another bucket or folder.
    """
    return (prefix if prefix.endswith("/") else f"{prefix}/") + target
