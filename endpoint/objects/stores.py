"""All places where archives are kept, as one: the URL's scheme says which."""

from __future__ import annotations

from pathlib import Path

from archives.extraction import ArchiveLimits
from endpoint.objects import files, s3
from endpoint.objects.extractions import Extractions
from endpoint.objects.files import FileStore
from endpoint.objects.s3 import S3Store
from endpoint.objects.store import ObjectInfo, ObjectStore, Room, StoreError
from endpoint.settings import EndpointSettings


def archive_limits(settings: EndpointSettings) -> ArchiveLimits:
    """What an archive may extract to, with the endpoint's settings for messages."""
    return ArchiveLimits(
        settings.max_extracted_bytes,
        settings.max_extracted_files,
        bytes_setting="MODELYARD_UP_MAX_EXTRACTED_BYTES",
        files_setting="MODELYARD_UP_MAX_EXTRACTED_FILES",
        directory_setting="MODELYARD_UP_DATA_DIR",
    )


class Stores:
    """An ObjectStore of ``s3://`` and ``file://``.

    ``s3_url`` is an S3 that is not AWS's; by default boto3 finds it, as it finds credentials: in
    the environment and its files.
    """

    def __init__(self, settings: EndpointSettings, s3_url: str | None = None) -> None:
        self._extractions = Extractions()
        s3_store = S3Store(
            self._extractions,
            url=s3_url,
            region=settings.region,
            connections=settings.download_connections,
        )
        self._stores: dict[str, ObjectStore] = {
            files.SCHEME: FileStore(self._extractions),
            s3.SCHEME: s3_store,
        }

    async def head(self, url: str, *, patient: bool = True) -> ObjectInfo:
        """Look at an object; only once unless ``patient``."""
        return await self._of(url).head(url, patient=patient)

    async def has_prefix(self, url: str) -> None:
        """Raise StoreError unless a prefix can be listed."""
        await self._of(url).has_prefix(url)

    async def extract(
        self, info: ObjectInfo, target: Path, limits: ArchiveLimits, room: Room
    ) -> int:
        """Download and extract an archive; returns the bytes of its files."""
        return await self._of(info.url).extract(info, target, limits, room)

    async def close(self) -> None:
        """End what is being extracted, then connections and threads."""
        await self._extractions.close()
        for store in self._stores.values():
            await store.close()

    def _of(self, url: str) -> ObjectStore:
        for scheme, store in self._stores.items():
            if url.startswith(scheme):
                return store
        raise StoreError(f"{url!r} is no place of archives; it must start with s3:// or file://")
