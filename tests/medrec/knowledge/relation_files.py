"""Hand-made tables in the form of the UMLS and of SemMedDB, with their traps.

The names are invented or of the public classifications; no row is taken from a licensed table.
"""

import gzip
from pathlib import Path

# CUI|LAT|TS|LUI|STT|SUI|ISPREF|AUI|SAUI|SCUI|SDUI|SAB|TTY|CODE|STR|SRL|SUPPRESS|CVF|
_ATOM = "{cui}|ENG|P|L1|PF|S1|Y|A1||||{sab}|{tty}|{code}|{name}|0|{suppress}||\n"


def atom(cui, sab, code, name="a name", tty="PT", suppress="N"):
    """A line of MRCONSO."""
    return _ATOM.format(cui=cui, sab=sab, tty=tty, code=code, name=name, suppress=suppress)


MRCONSO = "".join(
    [
        atom("C0000001", "ICD9CM", "428.0", 'Congestive "heart" failure, Ménière'),
        atom("C0000002", "ICD9CM", "42.80", "the procedure of the same digits"),
        atom("C0000003", "ICD9CM", "E871", "an object left in the body"),
        atom("C0000004", "ICD10CM", "E87.1", '"low sodium'),
        atom("C0000005", "ICD9CM", "E880.9", "a fall"),
        atom("C0000006", "ICD10CM", "E88.09", "a protein"),
        atom("C0000007", "ICD10PCS", "0BH17EZ", "a tube"),
        atom("C0000008", "ATC", "C03C", "diuretics"),
        atom("C0000008", "ICD9CM", "E88.09", "no code of this vocabulary"),
        atom("C0000009", "SNOMEDCT_US", "428.0", "of another vocabulary"),
        atom("C0000010", "ICD9CM", "428.0", "obsolete", suppress="O"),
        atom("C0000011", "ICD9CM", "428.0", "suppressed", suppress="Y"),
        atom("C0000012", "ICD9CM", "428.0", "suppressible type", suppress="E"),
        atom("C0000014", "ICD10CM", "I50.9", "the second concept of one code"),
        atom("C0000013", "ICD10CM", "I50.9", "the first"),
        atom("C0000013", "ICD10CM", "I50.9", "its abbreviation", tty="AB"),
        atom("C0000015", "ICD10CM", "I50.9", "a narrower entry", tty="ET"),
        atom("C0000016", "ICD9CM", "420-429.99", "a block"),
        atom("C0000017", "ICD9CM", "E870-E876.9", "a block of external causes"),
        atom("C0000018", "ICD10CM", "I30-I52", "a block"),
        atom("C0000019", "ICD9CM", "E87.1", "what a dot by version 10 would find"),
    ]
)

# CUI1|AUI1|STYPE1|REL|CUI2|AUI2|STYPE2|RELA|RUI|SRUI|SAB|SL|RG|DIR|SUPPRESS|CVF|
_LINE = "{tail}|A1|AUI|{rel}|{head}|A2|AUI|{rela}|R1||SRC|SRC||N|{suppress}||\n"


def line(head, relation, tail, rel="RO", suppress="N"):
    """A line of MRREL, head and tail as they are meant: the head is CUI2."""
    return _LINE.format(head=head, rela=relation, tail=tail, rel=rel, suppress=suppress)


MRREL = "".join(
    [
        line("C0000008", "may_treat", "C0000001"),
        line("C0000008", "may_treat", "C0000001"),  # of another pair of synonyms
        line("C0000001", "", "C0000013", rel="RB"),
        line("C0000001", "isa", "C0000001"),
        line("C0000001", "isa", "C0000090", suppress="O"),
        line("C0000001", "isa", "C0000091", suppress="E"),
        line("C0000001", "isa", "C0000092", suppress="Y"),
        line("C0000001", "isa", "C0000100"),
        line("C0000100", "isa", "C0000200"),
        line("C0000200", "isa", "C0000300"),
        line("C0000200", "inverse_isa", "C0000201"),
        line("C0000400", "causes", "C0000401"),
    ]
)

MRSTY = """C0000001|T047|B2.2.1.2.1|Disease or Syndrome|AT1||
C0000001|T046|B2.2.1.2|Pathologic Function|AT2||
C0000008|T121|A1.4.1.1.1|Pharmacologic Substance|AT3||
C0000999|T001|A1.1|Organism|AT4||
"""

_PREDICATION = '{i},{sentence},"123","{predicate}","{subject}","{name}","dsyn",{news},"{object}"'
_REST = ',"x, with a comma","dsyn",1'


def predication(subject, predicate, object_, sentence=1, name="a name", news=1, more=""):
    """A line of PREDICATION of 12 columns, and of more where given."""
    first = _PREDICATION.format(
        i=sentence + 1000,
        sentence=sentence,
        predicate=predicate,
        subject=subject,
        name=name,
        news=news,
        object=object_,
    )
    return first + _REST + more + "\n"


PREDICATION = "".join(
    [
        predication("C0000001", "CAUSES", "C0000004", 1),
        predication("C0000001", "CAUSES", "C0000004", 1, name="twice in one sentence"),
        predication("C0000001", "CAUSES", "C0000004", 2),
        predication("C0000004", "CAUSES", "C0000001", 3),
        predication("C0000004", "NEG_CAUSES", "C0000013", 4),
        predication("C0000001|3630", "AFFECTS", "C0000013", 5, name='a "" doubled quote'),
        predication("3630|C0000002|C0000007||99", "TREATS", "C0000001", 6),
        predication("3630|4914", "TREATS", "C0000001", 7),
        predication("C0000001", "ISA", "C0000001|5", 8),
        predication("C0000002", "TREATS", "C0000013", 9, name='escaped \\", quote', news=0),
        predication("C0000001", "COEXISTS_WITH", "C0000777", 10),
    ]
)


def write(path: Path, content: str | bytes, *, packed: bool = False) -> Path:
    """Writes a table, plain or gzip."""
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if packed else data)
    return path
