"""What is written is there whole or not at all, whatever stops its writer."""

import pandas as pd
import pytest

QUESTION = {"users": 2, "digest": "5f" * 32}
BEGAN = {"began_at": "2025-12-17T08:00:00.123+00:00"}
ENDED = {"ended_at": "2025-12-17T09:00:00+00:00", "source": "sandbox", "privacy": "names"}
FRAMES = ("records", "devices", "users")


def frames(fleet):
    return {name: getattr(fleet, name) for name in FRAMES}


@pytest.fixture
def fleet(build):
    return build({"43": {"2": 1, "1": 0}, "42": {"9": 2}}, regions=["north", None])


def test_a_part_is_read_back_with_the_types_of_the_client_in_the_order_of_its_users(
    snapshots, fleet
):
    with snapshots._draft(QUESTION, BEGAN) as draft:
        assert draft.parts() == set()
        draft.add(7, frames(fleet))
        assert draft.parts() == {7}
        back = draft.part(7)
    for name in FRAMES:
        keys = {"records": "create_time", "devices": "device_create_time", "users": "user_id"}
        ordered = getattr(fleet, name).sort_values(["user_id", keys[name]], ignore_index=True)
        pd.testing.assert_frame_equal(back[name], ordered.astype(back[name].dtypes))


def test_a_draft_goes_on_after_its_writer_with_the_facts_that_it_began_with(snapshots, fleet):
    with snapshots._draft(QUESTION, BEGAN) as draft:
        draft.add(0, frames(fleet))
    with snapshots._draft(QUESTION, {"began_at": "2030-01-01T00:00:00Z"}) as draft:
        assert (draft.parts(), draft.facts) == ({0}, BEGAN)
        assert str(draft.publish(ENDED, [])) == (
            "Snapshot(20251217T080000Z, 2 users, 3 records, complete)"
        )
    with snapshots._draft(QUESTION, BEGAN) as draft:
        assert draft.parts() == set()
