"""The list of studies."""

from fastapi.testclient import TestClient

from app.domain.comparison.study import StudyComparison
from app.services.studies import studies
from app.store.studies import queries as study_queries
from app.web.pages.studies.routes import Scale
from tests.unit.web.conftest import database_of


def weighed(client: TestClient, study_id: int) -> StudyComparison:
    """A study's comparison."""
    with database_of(client).reading() as session:
        return studies.comparisons(session, [study_queries.get(session, study_id)])[study_id]


def test_a_family_second_arm_has_a_hollow_marker_and_its_third_a_half_filled_one(full: TestClient) -> None:
    row = full.get("/studies").text.split("Two ranks")[1].split("</tr>")[0]
    assert row.count('class="hollow"') == 1
    assert row.count('class="half"') == 1


def test_a_scale_is_in_units_of_the_margin_and_never_leaves_its_box(full: TestClient) -> None:
    found = weighed(full, 1)
    assert Scale.of(found.reference, found.margin) is None
    for arm in found.others:
        scale = Scale.of(arm, found.margin)
        assert scale is not None
        assert 0 <= scale.low <= scale.at <= scale.high <= 120
