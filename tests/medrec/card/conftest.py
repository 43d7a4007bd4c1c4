import pytest

from medrec.card import pages as whole


@pytest.fixture
def undrawn(monkeypatch):
    """Pages without their plots, which take most of the time; for what the Markdown says."""
    monkeypatch.setattr(whole, "plots", lambda cohort: ())
