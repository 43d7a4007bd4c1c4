"""What is known of the ICD trees without any file: prefixes, and fixed chapters and blocks."""

from collections.abc import Mapping

from medrec.knowledge.icd_chapters import CHAPTERS_9_PROCEDURES, RANGES_9, SECTIONS_PCS
from medrec.knowledge.icd_tree import IcdTree

Titles = Mapping[str, str]  # title of each code, which has no version and no dot; "" if unknown


def diagnosis_tree_9(titles: Titles) -> IcdTree:
    """Returns chapter > block > category > (4 >) 5 characters of ICD-9-CM.

    A category has three characters, or four if it begins with E.
    """
    tree = IcdTree("9", lambda code: 4 if code[0] == "E" else 3)
    tree.add_codes(titles, headers=True)
    chapters = dict(line.split(":") for line in RANGES_9.replace("\n    ", " ").split("\n"))
    blocks = {block: chapter for chapter, found in chapters.items() for block in found.split()}
    tree.add_ranges([*blocks, *chapters], blocks)
    return tree


def procedure_tree_9(titles: Titles) -> IcdTree:
    """Returns chapter > 2 > 3 > 4 digits of ICD-9-CM, volume 3, its chapters with their titles."""
    tree = IcdTree("9", lambda _: 2)
    tree.add_codes(titles, headers=True)
    tree.add_ranges(CHAPTERS_9_PROCEDURES, {})
    tree.add_titles(CHAPTERS_9_PROCEDURES)
    return tree


def diagnosis_tree_10(titles: Titles) -> IcdTree:
    """Returns letter > category > each longer prefix of ICD-10-CM.

    The letter stands for the chapter: chapters and blocks change from year to year and come from
    a file (`icd.icd10_diagnoses`). Nearly every chapter is one letter or two of them.
    """
    tree = IcdTree("10", lambda _: 3)
    tree.add_codes(titles, headers=True)
    tree.add_ranges((), {}, {code: code[0] for code in tree.titles if len(code) == 3})
    return tree


def procedure_tree_10(*titles: Titles) -> IcdTree:
    """Returns section > body system > ... > code of ICD-10-PCS: each prefix of a code is a node.

    Of several titles of a code the last counts. Sections have their titles.
    """
    tree = IcdTree("10", lambda _: 1)
    for each in titles:
        tree.add_codes(each, headers=True)
    tree.link()
    tree.add_titles(SECTIONS_PCS)
    return tree
