"""Other hierarchies than ICD and ATC."""

from dataclasses import replace

import numpy as np
import pytest

from medrec.errors import KnowledgeError
from medrec.knowledge.base import load_knowledge
from medrec.knowledge.ontologies import in_categories, with_parents, without_parents
from medrec.knowledge.open_graph import IN_CATEGORY
from medrec.knowledge.origin import Origin
from medrec.knowledge.planted_titles import planted_titles
from medrec.knowledge.relations import from_names, union
from medrec.spec import KnowledgeSpec
from medrec.visit_graphs import node_table
from tests.medrec.small import VOCABULARY, small_cohort, small_knowledge


def bundle_with_categories():
    triples = [
        ("diagnoses/9:4280", IN_CATEGORY, "ccs/diagnoses:108"),
        ("diagnoses/9:42731", IN_CATEGORY, "ccs/diagnoses:106"),
        ("procedures/9:9604", IN_CATEGORY, "ccs/procedures:216"),
        ("diagnoses/10:I5023", IN_CATEGORY, "ccs/diagnoses:108"),  # not the cohort's
    ]
    bundle = small_knowledge().bundle
    return replace(bundle, relations=union(bundle.relations, from_names(Origin("", ""), triples)))


def test_without_a_hierarchy_nothing_has_ancestors():
    flat = without_parents(small_knowledge().bundle)
    assert not any(flat.ancestors(f"diagnoses/{code}") for code in VOCABULARY["diagnoses"])
    table = node_table(VOCABULARY, ("diagnoses", "medications"), flat, ancestors=True)
    assert len(table.names) == len(VOCABULARY["diagnoses"]) + len(VOCABULARY["medications"])


def test_categories_stand_above_diagnoses_and_procedures_and_atc_above_drugs():
    whole = bundle_with_categories()
    found = in_categories(whole, VOCABULARY)
    assert found.ancestors("diagnoses/9:4280") == ("diagnoses/ccs:108",)
    assert found.ancestors("procedures/9:9604") == ("procedures/ccs:216",)
    assert found.ancestors("diagnoses/9:25000") == ()
    assert found.ancestors("medications/C03C") == whole.ancestors("medications/C03C")
    assert "diagnoses/10:I5023" not in found.nodes


def test_without_categories_ccs_is_refused():
    with pytest.raises(KnowledgeError, match="CCS"):
        in_categories(small_knowledge().bundle, VOCABULARY)
    with pytest.raises(KnowledgeError, match="CCS"):
        load_knowledge(small_cohort(), KnowledgeSpec(ontology="ccs"))


def test_added_nodes_have_titles_and_no_text():
    bundle = small_knowledge().bundle
    text = np.ones((len(bundle.nodes), 2), dtype=np.float32)
    grown = with_parents(
        replace(bundle, text=text), {"diagnoses/9:4280": "latent/1"}, {"latent/1": "Heart"}
    )
    row = grown.nodes.index("latent/1")
    assert grown.titles[row] == "Heart"
    assert not grown.text[row].any()
    assert grown.text.sum() == text.sum()
    assert grown.ancestors("diagnoses/9:4280") == ("latent/1",)
    assert (grown.parents >= 0).sum() == 1
    assert list(grown.nodes) == sorted(grown.nodes)


def test_each_hierarchy_is_knowledge_of_its_own():
    found = {}
    for ontology in ("icd", "none", "mash"):
        knowledge = load_knowledge(small_cohort(), KnowledgeSpec(ontology=ontology))
        found[ontology] = knowledge.bundle.parents
    assert (found["none"] == -1).all()
    assert (found["icd"] >= 0).any()


def test_planted_titles_tell_codes_apart_and_stay_the_same():
    titles = planted_titles()
    assert titles["diagnoses/9:4280"] == "heart failure, unspecified"
    assert titles["diagnoses/9:428"] == "heart failure"
    codes = [name for name in titles if len(name.partition(":")[2]) > 3]
    told = {titles[name] for name in codes}
    assert len(told) > 0.99 * len(codes)


def test_only_synthetic_cohorts_have_planted_titles():
    cohort = small_cohort()
    real = replace(cohort, provenance=replace(cohort.provenance, dataset="mimic4"))
    made = replace(cohort, provenance=replace(cohort.provenance, dataset="synthetic"))
    spec = KnowledgeSpec()
    of_diagnoses = {
        name: [
            title
            for node, title in zip(k.bundle.nodes, k.titles, strict=True)
            if node.startswith("diagnoses/")
        ]
        for name, k in (("real", load_knowledge(real, spec)), ("made", load_knowledge(made, spec)))
    }
    assert not any(of_diagnoses["real"])
    assert any(of_diagnoses["made"])
