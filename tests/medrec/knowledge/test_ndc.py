import pytest

from medrec.errors import KnowledgeError
from medrec.knowledge.ndc import load_mapping, normalise
from tests.medrec.datasets.mimic4_files import TABLES, reverse_rows, write_csv
from tests.shared_data import shared_data

NDC, ATC = TABLES["ndc_rxcui"], TABLES["rxcui_atc"]


@pytest.fixture
def folders(tmp_path):
    write_csv(tmp_path / "knowledge" / "deep" / "ndc_rxcui_2020.csv", NDC, packed=True)
    write_csv(tmp_path / "knowledge" / "rxcui_atc4.csv", ATC)
    return (tmp_path / "knowledge",)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("63323026201", "63323026201"),
        (" 00069420030 ", "00069420030"),
        ("69420030", "00069420030"),  # zeros eaten by a spreadsheet
        ("0069-4200-30", "00069420030"),  # 4-4-2
        ("50242-040-62", "50242004062"),  # 5-3-2
        ("60575-4112-1", "60575411201"),  # 5-4-1
        ("0", None),
        ("", None),
        ("00000000000", None),
        ("633230262011", None),
        ("NA", None),
        ("12345-678", None),
    ],
)
def test_normalise(written, expected):
    assert normalise(written) == expected


def test_finds_the_tables_at_any_depth(folders):
    mapping = load_mapping(folders)
    assert mapping.of("11111111111") == ("C03A",)
    assert mapping.of("22222222222") == ("A10A",)
    assert mapping.of("33333333333") == ()
    assert mapping.of("44444444444") == ()
    assert mapping.of(None) == ()
    assert set(mapping.inputs) == {"ndc_rxcui_2020.csv.gz", "rxcui_atc4.csv"}


@pytest.mark.parametrize("name", ["NDC2RXCUI.csv", "ndc_rxcui.csv"])
@pytest.mark.parametrize("folder", [".", "knowledge/x"])
def test_finds_tables_by_any_of_their_names(tmp_path, name, folder):
    write_csv(tmp_path / folder / name, NDC)
    write_csv(tmp_path / folder / "RXCUI2atc4.csv", "YEAR,MONTH,NDC,RXCUI,ATC4\n,,,500,N02BA\n")
    assert load_mapping([tmp_path]).of("11111111111") == ("N02B",)


def test_all_gives_every_class(folders):
    assert load_mapping(folders, rule="all").of("11111111111") == ("C03A", "N02B")


def test_listed_gives_the_first_of_the_table_as_published(folders, tmp_path):
    assert load_mapping(folders, rule="listed").of("11111111111") == ("N02B",)
    turned = write_csv(tmp_path / "turned.csv", reverse_rows(ATC))
    mapping = load_mapping(folders, rxcui_atc=str(turned), rule="listed")
    assert mapping.of("11111111111") == ("C03A",)


def test_systemic_prefers_what_is_not_for_local_use(folders, tmp_path):
    """Vancomycin: by mouth for the gut (A07A) and by vein (J01X); neomycin: skin and eye only."""
    text = "rxcui,atc4\n500,A07AA\n500,J01XA\n600,S01AA\n600,D06AX\n"
    table = write_csv(tmp_path / "local.csv", text)
    mapping = load_mapping(folders, rxcui_atc=str(table))
    assert (mapping.of("11111111111"), mapping.of("22222222222")) == (("J01X",), ("D06A",))


def test_the_order_of_rows_changes_nothing(folders, tmp_path):
    twice = NDC + "11111111111,90\n"
    tables = [
        (write_csv(tmp_path / f"{i}_n.csv", n), write_csv(tmp_path / f"{i}_a.csv", a))
        for i, (n, a) in enumerate([(twice, ATC), (reverse_rows(twice), reverse_rows(ATC))])
    ]
    one, other = (load_mapping(folders, str(n), str(a)) for n, a in tables)
    assert one.rxcui == other.rxcui
    assert one.rxcui["11111111111"] == "90"
    assert one.classes == other.classes


def test_the_largest_table_counts_and_others_fill_its_gaps(folders):
    write_csv(folders[0] / "ndc_rxcui_z.csv", "ndc,rxcui\n11111111111,600\n44444444444,600\n")
    mapping = load_mapping(folders)
    assert mapping.rxcui["11111111111"] == "500"
    assert mapping.rxcui["44444444444"] == "600"
    assert "ndc_rxcui_z.csv" in mapping.inputs


def test_a_named_table_is_used_alone(folders, tmp_path):
    named = write_csv(tmp_path / "mine.csv", "NDC,RXCUI\n44444444444,600\n")
    mapping = load_mapping(folders, ndc_rxcui=str(named))
    assert mapping.rxcui == {"44444444444": "600"}
    assert set(mapping.inputs) == {"mine.csv", "rxcui_atc4.csv"}


def test_empty_cells_are_no_mapping(folders, tmp_path):
    n = write_csv(tmp_path / "n.csv", NDC + "44444444444,\n0,500\n")
    a = write_csv(tmp_path / "a.csv", ATC + "800,\n,C03A\n")
    mapping = load_mapping(folders, str(n), str(a))
    assert "44444444444" not in mapping.rxcui
    assert set(mapping.classes) == {"500", "600"}


@pytest.mark.parametrize(
    ("option", "row", "message"),
    [
        ("ndc_rxcui", "55555555555,5OO", r"bad\.csv, line 5: `rxcui` must be an RXCUI.*'5OO'"),
        ("rxcui_atc", "700,C3AA", r"bad\.csv, line 5: `atc4` must be an ATC code.*'C3AA'"),
        ("rxcui_atc", "700.0,C03AA", r"bad\.csv, line 5: `rxcui` must be an RXCUI.*'700\.0'"),
        ("rxcui_atc", "700,C03", r"line 5: `atc4` must be an ATC code.*'C03'"),
    ],
)
def test_a_malformed_code_is_named(folders, tmp_path, option, row, message):
    bad = write_csv(tmp_path / "bad.csv", TABLES[option] + row + "\n")
    with pytest.raises(KnowledgeError, match=message):
        load_mapping(folders, **{option: str(bad)})


def test_says_what_is_missing_where_it_looked_and_which_option_names_it(tmp_path):
    places = [tmp_path / "hospital", tmp_path / "knowledge"]
    write_csv(places[0] / "ndc_rxcui.csv", NDC)
    with pytest.raises(KnowledgeError) as raised:
        load_mapping(places)
    for part in ("RXCUI to ATC", *map(str, places), "`rxcui_atc`", "`drug_names: true`"):
        assert part in str(raised.value)
    with pytest.raises(KnowledgeError, match=r"NDC to RXCUI.*below the folders of knowledge"):
        load_mapping([])


def test_tables_that_are_not_required_may_be_missing(tmp_path):
    write_csv(tmp_path / "ndc_rxcui.csv", NDC)
    mapping = load_mapping([tmp_path], required=False)
    assert mapping.of("11111111111") == ()
    assert mapping.inputs == {}  # what is not used is not said to be
    path = str(tmp_path / "ndc_rxcui.csv")
    with pytest.raises(KnowledgeError, match="`ndc_rxcui` is of no use without `rxcui_atc`"):
        load_mapping([], ndc_rxcui=path, required=False)
    with pytest.raises(KnowledgeError, match="`rxcui_atc` must name a file"):
        load_mapping([tmp_path], rxcui_atc="nowhere.csv", required=False)


def test_a_named_table_must_exist(folders):
    with pytest.raises(KnowledgeError, match=r"`rxcui_atc` must name a file, but nowhere\.csv"):
        load_mapping(folders, rxcui_atc="nowhere.csv")


def test_the_open_tables_together_have_the_packages_of_both():
    shared_data("knowledge", "nc", "drug", "ndc_rxcui_2020.csv.gz")
    mapping = load_mapping([shared_data("knowledge")])
    assert len(mapping.classes) == 11_374
    assert mapping.rxcui["00002080001"] == "540930"
    assert mapping.classes["1000000"] == ("C03A",)  # of C03AA and C08CA and others
    packages = shared_data("knowledge", "open", "drug", "ndc_rxcui_gamenet.csv.gz")
    alone = load_mapping([shared_data("knowledge")], ndc_rxcui=str(packages))
    assert alone.rxcui.keys() < mapping.rxcui.keys()
