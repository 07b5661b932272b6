from hypothesis import given
from hypothesis import strategies as st

from koodrive_nb.analysis import definitions
from koodrive_nb.analysis.headline_counts import KPIS


@given(
    st.dictionaries(st.sampled_from(["RPO", "grace", "stuck", "window", "zone"]), st.text("a1 "))
)
def test_definitions_are_taken_apart_as_they_were_put_together(some):
    parts = dict.fromkeys(["RPO", "grace", "stuck", "window", "zone"], "x") | some
    for kpi in KPIS:
        written = definitions.write(kpi, parts)
        _, found = definitions.read(written)
        assert found.items() <= parts.items()
        assert definitions.difference(written, written) is None
    assert definitions.difference(written, "Another (grace = x).") == "the definition changed"
