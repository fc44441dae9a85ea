"""A JSON file that stands for GPUs, for tests and for trying out settings without one.

``gpus`` lists name, ``total_bytes`` and ``used_bytes`` (by others). ``processes`` says what is used
by pid and index: ``{"4711": {"0": 1048576}}``. A process may also speak for itself: a file named by
its pid in ``process_dir`` says ``{"0": 1048576}``, and counts while the process lives. With
``knows_processes`` false these GPUs do not tell who uses what, as in some containers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from model_server.settings import SettingsError

_Bytes = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]
_Number = Annotated[str, msgspec.Meta(pattern="^(0|[1-9][0-9]{0,8})$")]
_ByGpu = dict[_Number, _Bytes]


class TableGpu(msgspec.Struct, frozen=True):
    """One GPU; ``used_bytes`` is what others use, not what models do."""

    name: str
    total_bytes: _Bytes
    used_bytes: _Bytes = 0


class GpuTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of them, and who uses what."""

    gpus: list[TableGpu]
    processes: dict[_Number, _ByGpu] = {}
    process_dir: str = ""
    knows_processes: bool = True

    def used_by_process(self) -> dict[int, dict[int, int]]:
        """Bytes by pid and index, of GPUs that there are."""
        found = {int(pid): self._known(used) for pid, used in self.processes.items()}
        for pid, used in _told(self.process_dir).items():
            found[pid] = self._known(used)
        return found

    def _known(self, used: _ByGpu) -> dict[int, int]:
        by_index = {int(number): count for number, count in used.items()}
        return {index: count for index, count in by_index.items() if index < len(self.gpus)}


def read_table(path: str) -> GpuTable:
    """The table in a file. Raises SettingsError, saying what is wrong with it."""
    expected = (
        f"gpu_probe is {path!r}; it must be auto, none, or a JSON file such as "
        '{"gpus": [{"name": "A10G", "total_bytes": 24000000000}]}'
    )
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=GpuTable)
    except OSError as error:
        raise SettingsError(f"{expected} ({error})") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise SettingsError(f"{expected}; this one is not ({error})") from error


def _told(process_dir: str) -> dict[int, _ByGpu]:
    """What living processes say of themselves; what cannot be read says nothing."""
    found: dict[int, _ByGpu] = {}
    if not process_dir:
        return found
    try:
        files = list(Path(process_dir).iterdir())
    except OSError:
        return found
    for file in files:
        if file.name.isdecimal() and _lives(file.name):
            try:
                found[int(file.name)] = msgspec.json.decode(file.read_bytes(), type=_ByGpu)
            except (OSError, msgspec.DecodeError):  # being written
                continue
    return found


def _lives(pid: str) -> bool:
    """Whether the process runs: a dead one holds nothing, even before it is reaped."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
