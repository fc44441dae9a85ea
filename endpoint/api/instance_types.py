"""Instance types that cannot serve in multi-model mode.

The platform takes single-GPU types only; those with several GPUs or with other accelerators fail
at CreateEndpointConfig.
"""

from __future__ import annotations

_OTHER_ACCELERATORS = ("dl1", "inf1", "inf2", "trn1", "trn1n", "trn2")

# Families of which every size has several GPUs, and sizes of the others that do.
_ALL_SIZES = ("p4d", "p4de", "p5e", "p5en", "p6-b200", "p6-b300", "p6e-gb200")
_SIZES = {
    "p2": ("8xlarge", "16xlarge"),
    "p3": ("8xlarge", "16xlarge"),
    "p5": ("48xlarge",),
    "g4dn": ("12xlarge",),
    "g5": ("12xlarge", "24xlarge", "48xlarge"),
    "g6": ("12xlarge", "24xlarge", "48xlarge"),
    "g6e": ("12xlarge", "24xlarge", "48xlarge"),
    "g7": ("12xlarge", "24xlarge", "48xlarge"),
    "g7e": ("12xlarge", "24xlarge", "48xlarge"),
}


def serves_many_models(instance_type: str) -> bool:
    """Whether the platform takes a type, such as ``ml.g5.xlarge``, for multi-model containers."""
    _, family, size = instance_type.split(".")
    if family in _OTHER_ACCELERATORS or family in _ALL_SIZES:
        return False
    return size not in _SIZES.get(family, ())
