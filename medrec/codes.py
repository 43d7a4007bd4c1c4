"""How codes are written: with the version they belong to, without dots.

Diagnoses and procedures are "9:4280" (ICD-9-CM) and "10:I5023" (ICD-10-CM, or ICD-10-PCS for
procedures): the same characters mean other things in the other version, "9:E871" a foreign object
left in the body, "10:E871" low sodium. A code of unknown version is written bare, "4280".
Medications are ATC level 3 classes of four characters, "C03A".
"""

VERSIONS = ("9", "10")


def join(version: str, code: str) -> str:
    """Returns the code of that version, upper case and without dots and blanks.

    Example:
        >>> join("10", " i50.23"), join("", "4280")
        ('10:I5023', '4280')
    """
    bare = code.replace(".", "").strip().upper()
    return f"{version}:{bare}" if version else bare


def split(code: str) -> tuple[str, str]:
    """Returns version ("9", "10", or "" where unknown) and code.

    Example:
        >>> split("10:I5023"), split("4280")
        (('10', 'I5023'), ('', '4280'))
    """
    version, colon, bare = code.partition(":")
    return (version, bare) if colon and version in VERSIONS else ("", code)
