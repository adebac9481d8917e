"""Backup and restore: one portable file, out of either database and into either.

The file is a ZIP: ``tables/NAME.jsonl``, one JSON array a row in the order of the columns that the manifest names;
``artefacts/...``, the runs' files, where they were asked for; and at its end ``manifest.json``: the format,
the schema's version, each table's columns and rows, counters, and the SHA-256 of every other member.
"""

from __future__ import annotations

from app.backups.archive import Manifest, read_manifest
from app.backups.dump import backup
from app.backups.load import restore

__all__ = ["Manifest", "backup", "read_manifest", "restore"]
