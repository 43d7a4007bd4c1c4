"""Records as tokens: there and back, and the grammar against a plain state machine."""

import numpy as np
import pytest
import torch

from medrec.cohort import KINDS, Codes
from medrec.errors import ConfigError
from medrec.generation._histories import Histories, histories
from medrec.generation._records import ResidentRecords, Tokens
from tests.medrec.small import small_cohort, small_knowledge, to_codes, without

TOKENS = Tokens(4, 2, 3)


def plain(real: Histories, tokens: Tokens) -> list[list[int]]:
    """Records by plain loops."""
    found, visit = [], 0
    for visits in real.visits:
        record = [tokens.start]
        for _ in range(visits):
            closings = (tokens.procedures_token, tokens.medications_token, tokens.end_visit)
            for kind, closing in zip(KINDS, closings, strict=True):
                codes = real.codes[kind]
                own = codes.values[codes.offsets[visit] : codes.offsets[visit + 1]]
                record += [int(code) + tokens.first[kind] for code in own] + [closing]
            visit += 1
        found.append([*record, tokens.end_record])
    return found


def everyone() -> Histories:
    cohort = small_cohort()
    return histories(cohort, np.arange(cohort.patients))


def equal(a: Histories, b: Histories) -> bool:
    same = [np.array_equal(a.visits, b.visits)]
    for kind in KINDS:
        same.append(np.array_equal(a.codes[kind].offsets, b.codes[kind].offsets))
        same.append(np.array_equal(a.codes[kind].values, b.codes[kind].values))
    return all(same)


def test_tokens_are_codes_in_a_row_then_special_ones():
    tokens = Tokens.of(small_knowledge())
    assert (tokens.diagnoses, tokens.procedures, tokens.medications) == (12, 6, 10)
    special = (
        tokens.start, tokens.procedures_token, tokens.medications_token, tokens.end_visit,
        tokens.end_record, tokens.pad,
    )  # fmt: skip
    assert special == tuple(range(28, 34))
    assert (tokens.codes, tokens.size) == (28, 34)


def test_encoding_equals_plain_loops():
    tokens, real = Tokens.of(small_knowledge()), everyone()
    offsets, values, cut = tokens.encode(real, 1000)
    expected = plain(real, tokens)
    assert np.diff(offsets).tolist() == [len(record) for record in expected]
    assert values.tolist() == [token for record in expected for token in record]
    assert cut == 0


def test_decoding_gives_back_what_was_encoded():
    tokens, real = Tokens.of(small_knowledge()), everyone()
    offsets, values, _ = tokens.encode(real, 1000)
    assert equal(tokens.decode(offsets, values), real)


def test_a_kind_without_codes_is_encoded_and_decoded():
    cohort = without(small_cohort(), "procedures")
    real = histories(cohort, np.arange(cohort.patients))
    tokens = Tokens(12, 0, 10)
    offsets, values, _ = tokens.encode(real, 1000)
    assert equal(tokens.decode(offsets, values), real)
    assert not tokens.allowed(torch.tensor(tokens.procedures_token))[: tokens.codes].any()


def test_visits_beyond_the_context_are_left_out_and_counted():
    tokens, real = Tokens.of(small_knowledge()), everyone()
    whole = plain(real, tokens)
    context = 40
    offsets, values, cut = tokens.encode(real, context)
    assert np.diff(offsets).max() <= context
    left = 0
    for patient, record in enumerate(whole):
        kept = values[offsets[patient] : offsets[patient + 1]].tolist()
        ends = [i for i, token in enumerate(record) if token == tokens.end_visit]
        fitting = [i for i in ends if i + 2 <= context]
        assert kept == [*record[: fitting[-1] + 1], tokens.end_record]
        left += len(ends) - len(fitting)
    assert cut == left > 0


def test_a_record_of_just_the_context_is_whole():
    tokens, real = Tokens.of(small_knowledge()), everyone()
    longest = max(len(record) for record in plain(real, tokens))
    assert tokens.encode(real, longest)[2] == 0
    assert tokens.encode(real, longest - 1)[2] > 0


def test_a_context_too_small_for_a_first_visit_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"`context` 6 .* needs 1\d tokens"):
        Tokens.of(small_knowledge()).encode(everyone(), 6)


def test_unfinished_records_end_with_their_last_whole_visit():
    t = TOKENS
    p, m, v = t.procedures_token, t.medications_token, t.end_visit
    records = [
        [t.start, 0, 3, p, 4, m, 6, 8, v, 1, p, m],  # the second visit is unfinished
        [t.start, 2, p, m],  # no whole visit
        [t.start, p, m, v, t.end_record],  # a visit without codes
        [t.start, p, m, v, 1, p, m, v, p, m, 7, v, t.end_record],
    ]
    offsets = np.cumsum([0, *map(len, records)])
    found = t.decode(offsets, np.concatenate(records))
    assert found.visits.tolist() == [1, 2]
    lists = {
        kind: [
            codes.values[a:b].tolist()
            for a, b in zip(codes.offsets[:-1], codes.offsets[1:], strict=True)
        ]
        for kind, codes in found.codes.items()
    }
    assert lists == {
        "diagnoses": [[0, 3], [1], []],
        "procedures": [[0], [], []],
        "medications": [[0, 2], [], [1]],
    }


def test_nothing_decodes_to_nobody():
    found = TOKENS.decode(np.zeros(1, np.int64), np.zeros(0, np.int64))
    assert len(found.visits) == 0
    assert all(codes.offsets.tolist() == [0] for codes in found.codes.values())


def followers(record: list[int], t: Tokens) -> set[int]:
    """What may come after a prefix, from the prose alone, reading the whole prefix."""
    if t.end_record in record:
        return {t.pad}
    visit: list[int] = []
    for token in record[1:]:
        visit = [] if token == t.end_visit else [*visit, token]
    ranges = {
        "diagnoses": range(t.diagnoses),
        "procedures": range(t.diagnoses, t.diagnoses + t.procedures),
        "medications": range(t.diagnoses + t.procedures, t.codes),
    }
    if t.medications_token in visit:
        kind, closing = "medications", {t.end_visit}
    elif t.procedures_token in visit:
        kind, closing = "procedures", {t.medications_token}
    else:
        kind, closing = "diagnoses", {t.procedures_token}
    if not visit and len(record) > 1:
        closing = closing | {t.end_record}
    own = [token for token in visit if token in ranges[kind]]
    return closing | {token for token in ranges[kind] if not own or token > max(own)}


@pytest.mark.parametrize("tokens", [TOKENS, Tokens(3, 0, 2), Tokens(1, 1, 1)])
def test_the_grammar_equals_a_plain_state_machine(tokens):
    rng = np.random.default_rng(0)
    for _ in range(30):
        record = [tokens.start]
        for _ in range(25):
            allowed = tokens.allowed(torch.tensor([record]))[0, -1].nonzero()[:, 0].tolist()
            assert set(allowed) == followers(record, tokens)
            record.append(int(rng.choice(allowed)))


def test_every_real_record_obeys_the_grammar():
    tokens = Tokens.of(small_knowledge())
    batch = ResidentRecords(everyone(), tokens, 1000).gather(torch.arange(24))
    allowed = tokens.allowed(batch.tokens[:, :-1])
    assert allowed.gather(2, batch.tokens[:, 1:, None]).all()


def test_gathered_records_are_padded_at_the_end():
    tokens, real = Tokens.of(small_knowledge()), everyone()
    resident = ResidentRecords(real, tokens, 1000)
    expected = plain(real, tokens)
    assert resident.lengths.tolist() == [len(record) for record in expected]
    patients = [5, 0, 3]
    batch = resident.gather(torch.tensor(patients))
    width = max(len(expected[p]) for p in patients)
    assert batch.tokens.shape == (3, width)
    for row, patient in enumerate(patients):
        padding = [tokens.pad] * (width - len(expected[patient]))
        assert batch.tokens[row].tolist() == expected[patient] + padding
        assert batch.mask[row].tolist() == [token != tokens.pad for token in batch.tokens[row]]


def test_visits_may_come_without_any_codes():
    """A cohort has no such visits; encoding them is still defined."""
    real = Histories(
        np.array([2]),
        {
            "diagnoses": to_codes([[], [1]]),
            "procedures": to_codes([[], []]),
            "medications": Codes(np.zeros(3, np.int32), np.zeros(0, np.int32)),
        },
    )
    offsets, values, _ = TOKENS.encode(real, 20)
    assert values.tolist() == plain(real, TOKENS)[0]
    assert TOKENS.decode(offsets, values).visits.tolist() == [1]
