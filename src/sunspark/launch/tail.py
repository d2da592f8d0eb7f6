"""A run's records as they are written: each one once, whoever writes them and wherever one looks from."""

from typing import final

from sunspark import storage
from sunspark.records import Record, whole_records


@final
class RecordTail:
    """Reads what is new in the records of a run since the last look; reads nothing twice."""

    def __init__(self, run: str) -> None:
        self._directory = storage.join(run, "records")
        self._read_bytes: dict[str, int] = {}

    def read_new(self) -> list[Record]:
        """The records that were finished since the last call, oldest first.

        Raises RunError when a line is damaged. A line that is being written is left for the next call.
        """
        records: list[Record] = []
        for entry in storage.list_directory(self._directory):
            if entry.name.endswith(".jsonl"):
                records += self._read_file(entry.uri)
        return sorted(records, key=lambda record: record.time_unix_seconds)

    def _read_file(self, uri: str) -> list[Record]:
        start = self._read_bytes.get(uri, 0)
        with storage.open_random_access(uri) as file, storage.storage_errors(uri):
            body: bytes = file.read_at(max(0, file.size() - start), start)
        records, size_bytes = whole_records(body, uri, start)
        self._read_bytes[uri] = start + size_bytes
        return records
