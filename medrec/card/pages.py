"""The card of a cohort: what it holds, what was left out and how it was made, for people.

One list of sections becomes two pages: card.md, and card.html with plots, a single file without
script or network. Both are pure functions of the cohort: no time, no folder, no identifier.
"""

from medrec.card import contents
from medrec.card.markdown import markdown
from medrec.card.parts import Section
from medrec.card.plots import plots
from medrec.card.webpage import webpage
from medrec.cohort import Cohort


def pages(cohort: Cohort) -> dict[str, str]:
    """Returns the text of card.md and card.html by file name; the same for the same cohort.

    The HTML adds plots and whole sha256 sums. `Cohort.save` takes the result as it is.
    """
    lead = contents.title(cohort), cohort.fingerprint, contents.story(cohort)
    facts = contents.facts(cohort)
    drawn = Section("Distributions", plots=plots(cohort))
    return {
        "card.md": markdown(*lead, [*facts, *contents.making(cohort, 16)]),
        "card.html": webpage(*lead, [*facts, drawn, *contents.making(cohort, 64)]),
    }
