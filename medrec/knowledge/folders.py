"""Where a data set's mapping tables may lie."""

from pathlib import Path

from medrec.errors import KnowledgeError


def knowledge_folders(source: Path, named: str | None) -> tuple[Path, ...]:
    """Returns the folders to look in, best first; those that exist.

    Args:
        source: absolute folder of a data set: it, its folder `knowledge`, and the folder
            `knowledge` beside it are looked in.
        named: the one folder to look in instead.

    Raises:
        KnowledgeError: the folder named is none.
    """
    if named is not None:
        path = Path(named).expanduser()
        if not path.is_dir():
            raise KnowledgeError(f"`knowledge` must name a folder, but {named} is none.")
        return (path.resolve(),)
    places = (source / "knowledge", source.parent / "knowledge", source)
    return tuple(place for place in places if place.is_dir())
