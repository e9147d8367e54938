"""Long work that survives being killed: a list of shards, each done when its one result file is there.

The list is written once, before anything is done, and only ever grows at its end; a shard's result is written beside its place and then
renamed. So whatever is killed, and when, the same command goes on where it stopped, nothing is lost, and nothing is there twice.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from twohands.errors import UserError

MANIFEST = "manifest.jsonl"
T = TypeVar("T")
Item = tuple[Any, ...]
"""What a unit of work is made from: strings, numbers and None, so that it is the same after a journey through JSON."""


@dataclass(frozen=True)
class Shard:
    """Items that are done together, into one file."""

    index: int
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Manifest:
    """The shards of a folder. First line of the file: the settings, under which all of them are done; then a line a shard."""

    folder: Path
    suffix: str
    """Of the result files, such as ".parquet"."""
    settings: dict[str, Any]
    shards: tuple[Shard, ...]

    @staticmethod
    def open(folder: Path, suffix: str, settings: dict[str, Any]) -> "Manifest":
        """The folder's manifest, or a new and empty one. UserError if the folder was begun with other settings, or is no folder of this kind."""
        path = folder / MANIFEST
        if not path.is_file():
            return Manifest(folder, suffix, settings, ())
        found = Manifest.read(folder, suffix)
        if found.settings != settings:
            differing = sorted(k for k in {*settings, *found.settings} if settings.get(k) != found.settings.get(k))
            was = ", ".join(f"{name} {found.settings.get(name)!r}, now {settings.get(name)!r}" for name in differing)
            raise UserError(f"{folder} was begun with other settings ({was}); give those again, or another folder")
        return found

    @staticmethod
    def read(folder: Path, suffix: str) -> "Manifest":
        """A manifest that is there. UserError if it is not, or is broken."""
        path = folder / MANIFEST
        try:
            head, *lines = path.read_text(encoding="utf-8").splitlines()
            settings = json.loads(head)["settings"]
            rows = [json.loads(line) for line in lines]
            shards = tuple(Shard(row["shard"], tuple(tuple(item) for item in row["items"])) for row in rows)
        except FileNotFoundError as error:
            raise UserError(f"there is no {MANIFEST} in {folder}; give a folder that this program has filled") from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} cannot be read ({error}); choose another folder, or delete this one") from error
        return Manifest(folder, suffix, settings, shards)

    def with_items(self, items: Iterable[Item], per_shard: int) -> "Manifest":
        """The manifest with new shards for the items that it does not hold yet; on disk when this returns."""
        known = {item for shard in self.shards for item in shard.items}
        new = [item for item in items if item not in known]
        first = len(self.shards)
        added = (Shard(first + k, tuple(new[i : i + per_shard])) for k, i in enumerate(range(0, len(new), per_shard)))
        grown = Manifest(self.folder, self.suffix, self.settings, (*self.shards, *added))
        if new or not (self.folder / MANIFEST).is_file():
            lines = [json.dumps({"settings": grown.settings})]
            lines += [json.dumps({"shard": s.index, "items": s.items}) for s in grown.shards]
            self.folder.mkdir(parents=True, exist_ok=True)
            with beside(self.folder / MANIFEST) as part:
                part.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return grown

    def path(self, shard: Shard) -> Path:
        """Where the shard's result lies once it is done."""
        return self.folder / f"{shard.index:06d}{self.suffix}"

    def pending(self) -> list[Shard]:
        """The shards that are not done."""
        done = {p.name for p in self.folder.glob(f"*{self.suffix}")}
        return [s for s in self.shards if self.path(s).name not in done]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keeps a second run out of the folder. The system lets go of it when the process ends, however it ends."""
        try:
            import fcntl
        except ImportError:  # not a Unix: two runs at once then waste work, but spoil nothing
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(f"another run is at work in {self.folder}; wait for it, or choose another folder") from error
            yield


@contextlib.contextmanager
def beside(path: Path) -> Iterator[Path]:
    """A place beside `path` to write to; once all is written it takes the name of `path`, and it vanishes if that fails."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as written:
            os.fsync(written.fileno())  # a machine that loses power must not find the name without the content
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@dataclass(frozen=True)
class ShardReport:
    """What became of a shard."""

    shard: int
    pictures: int
    hands: int
    failures: int
    seconds: float
    process: int
    """Its worker's process number."""


MOST_ATTEMPTS = 3
"""An item under which the process died so often is given up."""


@dataclass(frozen=True)
class Attempts:
    """Which item of a shard is being done, on disk, so that one that kills its process (a decoder that crashes, a picture that fills the
    memory) is found out and left aside, instead of killing the process for ever."""

    path: Path

    @staticmethod
    def of(folder: Path, shard: Shard) -> "Attempts":
        (folder / "attempts").mkdir(exist_ok=True)
        return Attempts(folder / "attempts" / f"{shard.index:06d}.log")

    def counts(self) -> dict[int, int]:
        """Item -> how often it was begun and the process ended with it as the last one."""
        if not self.path.is_file():
            return {}
        found: dict[int, int] = {}
        last: int | None = None
        for word in self.path.read_text(encoding="ascii").split():
            if word == "start":
                if last is not None:
                    found[last] = found.get(last, 0) + 1
                last = None
            else:
                last = int(word)
        if last is not None:
            found[last] = found.get(last, 0) + 1
        return found

    def note(self, word: int | str) -> None:
        """`start` at the beginning of the shard, then the number of each item before it is begun."""
        with self.path.open("a", encoding="ascii") as file:
            file.write(f"{word}\n")

    def forget(self) -> None:
        """The shard is done."""
        self.path.unlink(missing_ok=True)


def work_through(
    manifest: Manifest,
    shard: Shard,
    do: Callable[[Item], list[T]],
    give_up: Callable[[Item, str], list[T]],
    write: Callable[[Path, list[T]], None],
) -> list[T]:
    """Does a shard's items one after the other and writes its file; returns what it wrote, nothing if the file is there already (a scheduler may
    ask again for a shard whose worker died after finishing it)."""
    path = manifest.path(shard)
    if path.is_file():
        return []
    attempts = Attempts.of(manifest.folder, shard)
    deadly = {number for number, count in attempts.counts().items() if count >= MOST_ATTEMPTS}
    attempts.note("start")
    found: list[T] = []
    try:
        for number, item in enumerate(shard.items):
            if number in deadly:
                found += give_up(item, f"the process died under it {MOST_ATTEMPTS} times")
                continue
            attempts.note(number)
            found += do(item)
        write(path, found)
    finally:
        attempts.forget()  # what dies does not come here; an interruption is nobody's fault
    return found
