"""AddTags, ListTags, DeleteTags: of models, endpoint configurations and endpoints alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from endpoint.api.resources import Resources
from endpoint.errors import ValidationException
from endpoint.names import Names
from endpoint.records import Definition, EndpointRecord

_MOST = 50

Tagged = Resources[Definition] | Resources[EndpointRecord]


class Tags:
    """The operations. All raise ValidationException for what they cannot do."""

    def __init__(self, names: Names, *tagged: Tagged) -> None:
        self._names = names
        self._tagged = {resources.kind: resources for resources in tagged}

    async def add(self, request: dict[str, Any]) -> dict[str, Any]:
        """Add tags, in the place of those with the same keys; returns all of them."""
        tags = self._tags(request) | {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        if len(tags) > _MOST:
            raise ValidationException(f"A resource can have at most {_MOST} tags, not {len(tags)}.")
        self._put(request, tags)
        return _shown(tags)

    async def list(self, request: dict[str, Any]) -> dict[str, Any]:
        """All of them: there are never more than fit a page."""
        if request.get("NextToken"):
            raise ValidationException("Invalid NextToken: it is not one of this endpoint.")
        return _shown(self._tags(request))

    async def delete(self, request: dict[str, Any]) -> dict[str, Any]:
        """Remove those with the given keys, as far as they are there."""
        tags = self._tags(request)
        self._put(request, {k: v for k, v in tags.items() if k not in request["TagKeys"]})
        return {}

    def _resource(self, request: Mapping[str, Any]) -> tuple[Tagged, str]:
        found = self._names.parse(request["ResourceArn"])
        if found is None:
            raise ValidationException(f'Could not find resource "{request["ResourceArn"]}".')
        kind, name = found
        return self._tagged[kind], name

    def _tags(self, request: Mapping[str, Any]) -> dict[str, str]:
        resources, name = self._resource(request)
        tags = resources.get(name).request.get("Tags", [])
        return {tag["Key"]: tag["Value"] for tag in tags}

    def _put(self, request: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        resources, name = self._resource(request)
        resources.change(name, request={**resources.get(name).request, **_shown(tags)})


def _shown(tags: Mapping[str, str]) -> dict[str, Any]:
    return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}
