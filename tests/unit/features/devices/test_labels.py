"""Labels in a cell of a file mean what each of them means alone."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fleetvisor.features.devices import labels
from fleetvisor.ground.errors import Invalid
from fleetvisor.ground.limits import Limits

KEYS = st.sampled_from(["a", "b", "key", "x.y/z-1", "site", "app", "", "ü", "k" * 64])
VALUES = st.sampled_from(
    ["v", "1", "two", "ü", "☃", "a b", " a", "a,b", "a,b=c", "a, b=c", "a=b", "", "-", "v" * 7, "\u3000"]
)
BETWEEN = st.sampled_from([";", ";", ";", "; ", " ;", ";;", ";\t", " ; ", ",", ""])
CELLS = st.lists(
    st.tuples(KEYS, st.sampled_from(["=", "=", "=", "-", ""]), VALUES, BETWEEN).map("".join), max_size=5
).map("".join)


@settings(max_examples=1000)
@example("a=v ;b=1")
@example("a=1;b=1;x=1;y=1")
@example("a=1;a=2")
@given(CELLS | st.text("ab=;,- \n", max_size=20))
def test_a_cell_of_labels_means_what_each_of_them_means_alone(text):
    """Sound cells are read as a whole; the result, or the refusal, is that of the labels one by one."""
    pairs = [pair.strip() for pair in text.split(";") if pair.strip()]
    limits = Limits(labels_max=3, label_chars_max=6)
    try:
        changes = labels.parse(pairs, limits)
        expected = None if None in changes.values() else labels.merged({}, changes, limits)
    except Invalid:
        expected = None

    try:
        found = labels.parse_cell(text, limits)
    except Invalid:
        found = None

    assert found == expected
    assert found is None or list(found) == sorted(found)
