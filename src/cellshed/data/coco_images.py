"""What the images of a COCO file are called, and where they lie."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath, PurePosixPath

from cellshed.data.coco_file import CocoImage
from cellshed.data.images import joined
from cellshed.data.livecell import parse_name


def path_in_file(image: CocoImage) -> PurePosixPath:
    """Return an image's file_name as a path, backslashes taken as slashes."""
    return PurePosixPath(image.file_name.replace("\\", "/"))


def folders_in_file(image: CocoImage) -> list[str]:
    """Return the folders of an image's file_name, as `folders_of` has them."""
    return folders_of(path_in_file(image))


def folders_of(path: PurePath) -> list[str]:
    """Return a path's folders but root, drive and steps upwards."""
    return [part for part in path.parts[:-1] if not re.fullmatch(r"/+|\.\.|[A-Za-z]:", part)]


def names(image: CocoImage) -> tuple[str, str]:
    """Return an image's name without its suffix: the bare one, and one with its folders."""
    stem = path_in_file(image).stem.removesuffix(".ome")
    return stem, joined(folders_in_file(image), stem)


def cell_type(image: CocoImage) -> str:
    """Return what LIVECell's name says, else the folder that the file lies in, else ""."""
    parsed = parse_name(path_in_file(image).name)
    return parsed.cell_type if parsed else "".join(folders_in_file(image)[-1:])


def image_finder(
    images: Sequence[CocoImage], roots: Sequence[Path]
) -> Callable[[CocoImage], Path | None]:
    """Return a function that finds an image's file below some folders, None if it isn't there.

    A file that lies there without the folders of its file_name is taken too, unless two images
    of the COCO file would be the same one then.

    Args:
        images: all of the COCO file's.
        roots: folders, the first goes before.
    """
    bare = Counter(path_in_file(image).name for image in images)

    def find(image: CocoImage) -> Path | None:
        path = path_in_file(image)
        wanted = (path, path.name) if bare[path.name] == 1 else (path,)
        tried = (root / part for root in roots for part in wanted)
        return next((file for file in tried if file.is_file()), None)

    return find
