"""A run's folder and its copy in the store, in a folder and in S3: nothing half-written is ever chosen, and damage is passed over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.artefacts.store import Store, StoreError, open_store
from app.settings import Settings
from opcod.training.manifest import Keeping, manifest_name
from tests.s3 import S3, s3_server
from tests.unit.worker.checkpoint_files import newest_whole, prune, write_checkpoint
from worker.mirror import Cancelled, Mirror

RUN = "000001-abcd"


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    url = f"file://{tmp_path / 'store'}" if request.param == "file" else request.getfixturevalue("s3").bucket()
    return open_store(Settings(home=tmp_path / "web", store_url=url))


class Machine:
    """A machine with a home of its own."""

    def __init__(self, store: Store, folder: Path, *, keeping: Keeping | None = None) -> None:
        self.store, self.folder, self.told = store, folder, list[str]()
        self.cancelled = False
        folder.mkdir(parents=True, exist_ok=True)
        self.mirror = Mirror(store, RUN, folder, keeping=keeping or Keeping(2), tell=self.told.append, cancelled=lambda: self.cancelled)
        self.mirror.restore()

    def train(self, *seqs: int) -> Machine:
        for seq in seqs:
            write_checkpoint(self.folder, seq)
            self.mirror.push()
        return self

    def has(self) -> int | None:
        return newest_whole(self.folder)


@pytest.fixture
def machine(store: Store, tmp_path: Path) -> Callable[[str], Machine]:
    return lambda name: Machine(store, tmp_path / name / RUN)


def harm(store: Store, path: str, change: Callable[[bytes], bytes | None]) -> None:
    key = f"{RUN}/{path}"
    changed = change(store.read(key))
    if changed is None:
        store.remove([key])
    else:
        store.put_bytes(changed, key)


def flip(data: bytes) -> bytes:
    return data[:100] + bytes([data[100] ^ 1]) + data[101:]


HARMS: dict[str, Callable[[bytes], bytes | None]] = {"flipped": flip, "cut": lambda data: data[:-7], "gone": lambda data: None}


def test_another_machine_goes_on_from_the_newest_checkpoint(machine: Callable[[str], Machine]) -> None:
    first = machine("a").train(10, 20)
    second = machine("b")
    assert second.has() == 20
    assert second.told == []
    for path in (first.folder / "checkpoints").glob("*-000020/*.safetensors"):
        assert (second.folder / path.relative_to(first.folder)).read_bytes() == path.read_bytes()
    second.train(30)
    assert machine("a").has() == 30


def test_the_store_keeps_the_newest_checkpoints_and_nothing_else(machine: Callable[[str], Machine], store: Store) -> None:
    one = machine("a")
    for seq in (10, 20, 30, 40):
        one.train(seq)
        prune(one.folder, keep=2)
    held = store.sizes(RUN)
    assert {path.split("/")[1] for path in held if path.startswith("checkpoints/")} == {
        *(manifest_name(seq) for seq in (30, 40)),
        *(f"{name}-{seq:06d}" for name in ("ann", "bob") for seq in (30, 40)),
    }
    assert "tutors/ann-000000.safetensors" in held
    assert one.mirror.holdings().size_bytes == sum(held.values())


def test_what_the_configuration_keeps_is_kept_by_a_machine_that_never_had_it(store: Store, tmp_path: Path) -> None:
    Machine(store, tmp_path / "a" / RUN, keeping=Keeping(1, first=True)).train(10, 20)
    second = Machine(store, tmp_path / "b" / RUN, keeping=Keeping(1, first=True)).train(30, 40)
    assert second.mirror.holdings().whole == {manifest_name(10), manifest_name(40)}


def test_a_checkpoint_that_training_deletes_meanwhile_is_still_stored_whole(machine: Callable[[str], Machine], store: Store) -> None:
    one = machine("a").train(10)
    write_checkpoint(one.folder, 20)
    put = store.put

    def slow(source: Path, key: str) -> None:
        if not (one.folder / "checkpoints" / manifest_name(30)).exists():
            write_checkpoint(one.folder, 30)
            prune(one.folder, keep=1)
        put(source, key)

    store.put = slow  # type: ignore[method-assign]
    one.mirror.push()
    store.put = put  # type: ignore[method-assign]
    assert machine("b").has() == 20
    one.mirror.push()
    assert machine("c").has() == 30


@pytest.mark.parametrize("puts", range(6))
def test_an_upload_that_is_cut_short_is_never_chosen(machine: Callable[[str], Machine], store: Store, puts: int) -> None:
    """As `kill -9` after any number of files would leave it: there are 4 files, the manifest goes last."""
    one = machine("a").train(10)
    write_checkpoint(one.folder, 20)
    left = [puts]

    def dying(write: Callable[..., None]) -> Callable[..., None]:
        def put(source: Any, key: str) -> None:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            write(source, key)

        return put

    whole = store.put, store.put_bytes
    store.put, store.put_bytes = dying(store.put), dying(store.put_bytes)  # type: ignore[method-assign]
    if puts < 5:
        with pytest.raises(KeyboardInterrupt):
            one.mirror.push()
    else:
        one.mirror.push()
    store.put, store.put_bytes = whole  # type: ignore[method-assign]
    second = machine("b")
    assert second.has() == (20 if puts == 5 else 10)
    assert second.told == []
    kept = {"checkpoints", "ann-000010", "bob-000010"} | ({"ann-000020", "bob-000020"} if puts == 5 else set())
    assert {path.split("/")[-2] for path in store.sizes(RUN) if path.startswith("checkpoints/")} == kept, "what was cut short is cleared"
    assert second.train(20).mirror.holdings().whole == {manifest_name(10), manifest_name(20)}
    assert machine("c").has() == 20


@pytest.mark.parametrize("kind", HARMS)
@pytest.mark.parametrize("path", [f"checkpoints/{manifest_name(20)}", "checkpoints/bob-000020/weights.safetensors"])
def test_a_damaged_checkpoint_in_the_store_is_passed_over_and_said_so(
    machine: Callable[[str], Machine], store: Store, path: str, kind: str
) -> None:
    machine("a").train(10, 20)
    harm(store, path, HARMS[kind])
    second = machine("b")
    assert second.has() == 10
    nobody_knows = kind == "gone" and path.endswith(".json")
    assert len(second.told) == (0 if nobody_knows else 1)
    assert all("goes on from the one before, of round 1, step 10 and 10" in text for text in second.told)
    second.train(20)  # made again, it is stored again
    third = machine("c")
    assert third.has() == 20
    assert third.told == []


def test_damage_on_the_machine_is_mended_from_the_store(machine: Callable[[str], Machine]) -> None:
    one = machine("a").train(10, 20)
    file = one.folder / "checkpoints" / "ann-000020" / "optimizer.safetensors"
    file.write_bytes(flip(file.read_bytes()))
    again = machine("a")
    assert again.has() == 20
    assert "taken from the store" in again.told[0]


def test_what_a_machine_had_not_uploaded_yet_is_used_where_it_is_newer(machine: Callable[[str], Machine]) -> None:
    one = machine("a").train(10)
    write_checkpoint(one.folder, 20)
    again = machine("a")
    assert again.has() == 20
    again.mirror.push()
    assert machine("b").has() == 20


def test_an_attempt_that_is_over_may_fetch_what_the_next_one_fetches(
    machine: Callable[[str], Machine], store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that lost a run and claims it again does not wait for the file that is under way."""
    one, key = machine("a").train(10), f"{RUN}/checkpoints/{manifest_name(10)}"
    target, size = one.folder / "again.json", store.size(key)
    begun, fetched = threading.Event(), threading.Event()
    chunks = Store.chunks

    def late(store: Store, key: str, size: int) -> Iterator[bytes]:
        yield from chunks(store, key, size)
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            assert fetched.wait(30)

    monkeypatch.setattr(Store, "chunks", late)
    with ThreadPoolExecutor(1) as over:
        first = over.submit(store.fetch, key, target, size)
        assert begun.wait(30)
        assert store.fetch(key, target, size).sha256 is not None
        fetched.set()
        first.result()
    assert target.read_bytes() == store.read(key)
    assert list(one.folder.rglob("*.partial")) == []


def test_what_a_killed_attempt_had_half_fetched_goes(machine: Callable[[str], Machine]) -> None:
    folder = machine("a").train(10).folder
    (folder / "checkpoints" / ".weights.safetensors.7-7.partial").write_bytes(b"half")
    machine("a")
    assert list(folder.rglob("*.partial")) == []


def test_with_no_whole_checkpoint_the_run_starts_afresh_and_says_so(machine: Callable[[str], Machine], store: Store) -> None:
    machine("a").train(10, 20)
    harm(store, "tutors/ann-000000.safetensors", flip)  # of both
    second = machine("b")
    assert second.has() is None
    assert len(second.told) == 2
    assert all("starts afresh" in text for text in second.told)
    assert not [path for path in store.sizes(RUN) if path.startswith(("checkpoints/", "tutors/"))]
    assert machine("c").has() is None
    second.train(10)
    assert machine("d").has() == 10


def test_other_bits_for_the_same_step_never_spoil_a_checkpoint_that_is_kept(machine: Callable[[str], Machine], store: Store) -> None:
    """Hardware that does not repeat itself to the bit: the step is trained again and comes out a little different."""
    machine("a").train(10, 20)
    harm(store, "checkpoints/ann-000020/weights.safetensors", flip)
    second = machine("b")
    write_checkpoint(second.folder, 20, salt=" on another GPU")
    second.mirror.push()
    third = machine("c")
    assert third.has() == 20
    assert third.told == []


def test_a_worker_that_lost_the_run_writes_nothing_more(machine: Callable[[str], Machine], store: Store) -> None:
    one = machine("a").train(10)
    write_checkpoint(one.folder, 20)
    before = store.sizes(RUN)
    one.cancelled = True
    with pytest.raises(Cancelled):
        one.mirror.push()
    assert store.sizes(RUN) == before


def test_exports_end_with_the_file_that_makes_them_whole(machine: Callable[[str], Machine], store: Store) -> None:
    one = machine("a")
    export = one.folder / "exports" / "ann"
    export.mkdir(parents=True)
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (export / name).write_text(name)
    keys: list[str] = []
    put = store.put
    store.put = lambda source, key: (keys.append(key), put(source, key))[1]  # type: ignore[method-assign, func-returns-value]
    one.mirror.push_exports()
    assert keys[-1] == f"{RUN}/exports/ann/config.json"
    assert set(store.sizes(f"{RUN}/exports/ann")) == {"model.safetensors", "config.json", "tokenizer.json"}


def test_a_store_that_refuses_is_said_in_words_without_a_secret(s3: S3, tmp_path: Path) -> None:
    store = open_store(Settings(home=tmp_path / "web", store_url=s3.bucket()))
    one = Machine(store, tmp_path / "a" / RUN).train(10)
    write_checkpoint(one.folder, 20)
    with s3.refusing(), pytest.raises(StoreError) as caught:
        one.mirror.push()
    assert "OPCOD_STORE_URL" in caught.value.advice
    assert "a-very-secret-key" not in str(caught.value)
    one.mirror.push()
    assert Machine(store, tmp_path / "b" / RUN).has() == 20


@pytest.mark.parametrize("url", ["s3://", "ftp://x/y", "s3://key:secret@bucket/x", "file://", "/plain/path"])
def test_a_url_that_cannot_be_meant_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must"):
        Settings(home=tmp_path, store_url=url)


def test_the_folder_of_runs_as_its_own_store_copies_nothing(tmp_path: Path) -> None:
    assert Settings(home=tmp_path, store_url=f"file://{tmp_path / 'runs'}").store_url == ""
