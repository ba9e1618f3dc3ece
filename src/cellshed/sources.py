"""Files of images to segment, told apart without being read, and the names of their results."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cellshed.data.images import joined, stem


@dataclass(frozen=True)
class Source:
    """The file of an image, told from others without being read."""

    path: Path
    """As given."""
    mark: Mapping[str, Any]
    """Absolute path, size in bytes, and modification time in ns, as JSON has them."""
    name: str
    """What the image's results are called."""

    @property
    def file_name(self) -> str:
        """The file's name, after those folders that are in the name of its results."""
        parts = Path(self.mark["path"]).parts[1:]
        for folders in range(len(parts)):
            *above, file = parts[len(parts) - 1 - folders :]
            if joined(above, stem(Path(file))) == self.name:
                return "/".join((*above, file))
        return self.path.name


def source_of(path: Path) -> Source:
    """Look at the file of an image; one that isn't there is told when it is read."""
    mark: dict[str, Any] = {"path": str(path.parent.resolve() / path.name)}
    try:
        state = path.stat()
    except OSError:
        return Source(path, mark, stem(path))
    mark |= {"size": state.st_size, "modified": state.st_mtime_ns}
    return Source(path, mark, stem(path))


def told_apart(sources: Iterable[Source], known: Mapping[str, str]) -> list[Source]:
    """Name images of one name in several folders by as many of these as tell them apart.

    `A1/img.tif` and `B1/img.tif` become A1-img and B1-img, as `prepare` has it. In many file
    systems A and a are the same, so they are here.

    Args:
        sources: named by their files alone.
        known: names that results there go by already, by absolute path; they stay.

    Raises:
        ValueError: two images of one name in one folder.
    """
    sources = [replace(s, name=known.get(s.mark["path"], s.name)) for s in sources]
    groups: dict[str, list[Source]] = defaultdict(list)
    for source in sources:
        groups[source.name.casefold()].append(source)
    named = {
        source.path: name
        for group in groups.values()
        for source, name in zip(group, _names_apart(group, known), strict=True)
    }
    renamed = [replace(source, name=named[source.path]) for source in sources]
    _check_names(renamed)
    return renamed


def _names_apart(group: list[Source], known: Mapping[str, str]) -> list[str]:
    """Return names for images that share theirs, with the fewest folders that make them differ."""
    parents = [Path(source.mark["path"]).parent.parts[1:] for source in group]
    for folders in range(1 + max(map(len, parents))):
        names = [
            source.name
            if source.mark["path"] in known
            else joined(parts[len(parts) - min(folders, len(parts)) :], source.name)
            for source, parts in zip(group, parents, strict=True)
        ]
        if len({name.casefold() for name in names}) == len(group):
            return names
    return [source.name for source in group]


def _check_names(sources: Iterable[Source]) -> None:
    seen: dict[str, Path] = {}
    for source in sources:
        other = seen.setdefault(source.name.casefold(), source.path)
        if other != source.path:
            raise ValueError(
                f"{other} and {source.path} would both be written as '{source.name}': "
                "rename one, or give them to two runs with folders of their own"
            )
