"""A run's log: never lost in silence, bounded, and one text however many machines wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.artefacts import logs
from app.artefacts.store import Store, open_store
from app.settings import Settings
from tests.unit.training.test_checkpoints import no_room
from worker import run_log
from worker.run_log import RunLog

RUN = "000001-abcd"
MOST = 10 * 2**20


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Settings(home=tmp_path / "web", store_url=f"file://{tmp_path / 'store'}"))


def shipped(store: Store) -> dict[str, int]:
    return {f"log/{name}": size for name, size in store.sizes(f"{RUN}/log").items()}


def whole(store: Store, *, limit: int = 1000) -> str:
    """The log as a reader sees it who follows the cursor."""
    text, after = "", 0
    while True:
        part = logs.read(store, RUN, after=after, limit=limit)
        text += part.text
        if int(part.next_cursor) == after:
            return text
        after = int(part.next_cursor)


def make(folder: Path, store: Store, *, most: int = MOST) -> RunLog:
    return RunLog(folder, shipped(store), most_bytes=most)


def test_a_reader_sees_all_that_was_said_whatever_the_parts(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_log, "PART_BYTES", 100)
    log = make(tmp_path / "a", store)
    said = "".join(f"line {i}: naïve façade ✓\n" for i in range(50))
    for start in range(0, len(said.encode()), 37):
        log.write(said.encode()[start : start + 37])
        log.ship(store, RUN)
    assert len(shipped(store)) >= 4
    for limit in (1, 7, 64, 100_000):
        assert whole(store, limit=limit) == said
    last = logs.read(store, RUN, after=None, limit=20)
    assert said.endswith(last.text.lstrip("\ufffd"))
    assert last.size == int(last.next_cursor) == len(said.encode())


def test_another_machine_goes_on_where_the_store_ends(tmp_path: Path, store: Store) -> None:
    first = make(tmp_path / "a", store)
    first.write(b"from a\n")
    first.ship(store, RUN)
    first.write(b"never shipped\n")
    second = make(tmp_path / "b", store)
    second.write(b"from b\n")
    second.ship(store, RUN)
    again = make(tmp_path / "a", store)
    again.write(b"from a again\n")
    again.ship(store, RUN)
    assert whole(store) == "from a\nfrom b\nfrom a again\n"


def test_what_a_killed_worker_had_not_shipped_is_shipped_by_the_next_on_its_machine(tmp_path: Path, store: Store) -> None:
    first = make(tmp_path / "a", store)
    first.write(b"shipped\n")
    first.ship(store, RUN)
    first.write(b"last words\n")
    again = make(tmp_path / "a", store)
    again.write(b"back\n")
    again.ship(store, RUN)
    assert whole(store) == "shipped\nlast words\nback\n"


def test_a_log_that_grows_too_long_keeps_its_beginning_and_its_end_and_says_what_was_cut(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_log, "PART_BYTES", 100)
    log = make(tmp_path / "a", store, most=1000)
    for i in range(500):
        log.write(f"line {i:04d}\n".encode())
        if i % 50 == 0:
            log.ship(store, RUN)
    log.ship(store, RUN)
    text = whole(store)
    assert text.startswith("line 0000\n")
    assert text.endswith("line 0499\n")
    assert "bytes of the log were cut here]" in text
    cut = int(text.split(" bytes of the log")[0].rpartition("[")[2].replace(",", ""))
    kept = sum(shipped(store).values())
    assert kept + cut == 5000
    assert kept < 1300
    assert sum(path.stat().st_size for path in (tmp_path / "a" / "log").iterdir()) == kept


def test_a_full_disk_loses_lines_and_says_so_and_holds_nothing_up(tmp_path: Path, store: Store) -> None:
    log = make(tmp_path / "a", store)
    with no_room(1000):
        for i in range(200):
            log.write(f"line {i:04d}\n".encode())
        assert log.fault is not None
    log.write(b"there is room again\n")
    assert log.fault is None
    log.ship(store, RUN)
    text = whole(store)
    assert text.startswith("line 0000\n")
    assert "[1,000 bytes of the log could not be written here" in text
    assert text.endswith("there is room again\n")


def test_a_log_of_an_earlier_version_is_read_and_gone_on_with(tmp_path: Path) -> None:
    store = open_store(Settings(home=tmp_path))
    folder = tmp_path / "runs" / RUN
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("as it was\n")
    assert whole(store) == "as it was\n"
    log = RunLog(folder, {}, most_bytes=MOST)
    log.write(b"as it is\n")
    assert whole(store) == "as it was\nas it is\n"
