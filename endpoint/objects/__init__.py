"""Models' archives in object stores: looked at, downloaded, extracted."""
