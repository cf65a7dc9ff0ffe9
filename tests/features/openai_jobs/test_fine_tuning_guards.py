"""Fine-tuning jobs beside other users, deletions, quotas and failures."""

from typing import Any

import httpx2
import openai
import pytest
from sqlalchemy import delete, select, update
from sqlalchemy.exc import OperationalError

from app.domain.accounts.policy import Role
from app.features.openai_jobs import service as fine_tuning
from app.features.openai_jobs.tables import FineTuningJobRow
from app.features.quotas.rules import LimitChange
from app.features.quotas.services import quotas
from app.services.ownership import deletion
from app.settings import Settings
from app.store.database.session import Database
from app.store.files.files import Files
from app.store.tables import DatasetRow, RunRow, UploadRow, UserRow
from tests.features.openai_jobs.test_fine_tuning import MODEL, Site, chats, site_of
from tests.features.openai_jobs.test_fine_tuning import site as site
from tests.support.fakes.fakes import Refused, SilentBell
from tests.support.rows.accounts import Installation

pytestmark = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


def job_row(site: Site, job: Any) -> FineTuningJobRow:
    with site.database.reading() as session:
        return session.get_one(FineTuningJobRow, int(job.id.removeprefix("ftjob-")))


def test_a_job_on_private_files_trains_in_private_and_an_admin_trains_only_on_what_the_team_sees(
    database: Database, settings: Settings, files: Files
) -> None:
    installation = Installation(settings.model_copy(update={"login": "required"}))
    member, admin = (installation.token(role) for role in (Role.MEMBER, Role.ADMIN))
    owner = installation.ids[Role.MEMBER]
    with site_of(database, settings, files, installation.app, member) as site:
        admins = site.client.with_options(api_key=admin).fine_tuning.jobs
        wanted: dict[str, Any] = {"model": MODEL, "training_file": site.upload(chats())}
        both = wanted | {"validation_file": site.upload(chats(20, first=900), "held-out.jsonl")}
        of_team, of_admin = site.client.fine_tuning.jobs.create(**both), admins.create(**wanted)
        site.work()
        assert admins.retrieve(of_admin.id).status == "queued", admins.retrieve(of_admin.id).error
        assert site.client.fine_tuning.jobs.retrieve(of_team.id).status == "queued"
        with database.transaction() as session:
            visible = set(session.scalars(select(RunRow.id)))
            single = UploadRow.name.in_(("chats.jsonl", "held-out.jsonl"))
            session.execute(update(UploadRow).where(single).values(private_to=owner))
            session.execute(update(DatasetRow).where(DatasetRow.name == "finetune-1").values(private_to=owner))
        private = [site.client.fine_tuning.jobs.create(**more) for more in (wanted, both)]
        assert job_row(site, private[1]).upload_id != job_row(site, of_team).upload_id, "the team sees that pair"
        site.work()
        for job in private:
            job = site.client.fine_tuning.jobs.retrieve(job.id)
            assert job.status == "queued", job.error
        with database.reading() as session:
            made = session.scalars(select(RunRow).where(RunRow.id.not_in(visible))).all()
            assert {run.private_to for run in made} == {owner} and len(made) == 2
            used = session.scalars(select(DatasetRow).where(DatasetRow.id.in_([run.dataset_id for run in made]))).all()
            assert {row.private_to for row in used} == {owner}
            assert session.get_one(UploadRow, job_row(site, private[1]).upload_id).private_to == owner
        for more in (wanted, both):
            with pytest.raises(openai.BadRequestError, match="private to another user"):
                admins.create(**more)


def test_a_file_is_uploaded_in_private_with_what_its_jobs_make(
    database: Database, settings: Settings, files: Files
) -> None:
    installation = Installation(settings.model_copy(update={"login": "required"}))
    member, viewer = installation.token(Role.MEMBER), installation.token(Role.VIEWER)
    with site_of(database, settings, files, installation.app, member) as site:
        others = site.client.with_options(api_key=viewer)
        create: Any = site.client.files.create
        sent: dict[str, Any] = {"file": ("chats.jsonl", chats()), "purpose": "fine-tune"}
        private = {"extra_query": {"visibility": "private"}}
        file = create(**sent, **private)
        assert create(**sent).id == file.id, "the same bytes are the same file, which stays private"
        job = site.client.fine_tuning.jobs.create(model=MODEL, training_file=file.id)
        site.work()
        job = site.client.fine_tuning.jobs.retrieve(job.id)
        assert job.status == "queued" and job.model_extra is not None
        run_id = job.model_extra["vezna"]["run_id"]
        assert not others.files.list().data
        for ask in (others.files.retrieve, others.files.content, others.fine_tuning.jobs.retrieve):
            with pytest.raises(openai.NotFoundError):
                ask(job.id if ask == others.fine_tuning.jobs.retrieve else file.id)
        outsider = installation.program(Role.VIEWER)
        assert outsider.get(f"/api/v1/runs/{run_id}").status_code == 404
        assert outsider.get("/api/v1/uploads/1").status_code == 404
        assert outsider.get("/api/v1/datasets/finetune-1").status_code == 404
        other = sent | {"file": ("chats.jsonl", chats(20, first=900))}
        seen = create(**other)
        assert [one.id for one in others.files.list()] == [seen.id], "the team sees files by default"
        with pytest.raises(openai.BadRequestError, match="make it private on its page"):
            create(**other, **private)


def test_a_file_that_a_job_waits_for_stays_and_a_lost_one_is_named(site: Site, settings: Settings) -> None:
    file = site.upload(chats())
    job = site.client.fine_tuning.jobs.create(model=MODEL, training_file=file)
    with pytest.raises(openai.BadRequestError, match="Fine-tuning job 1 is about to train on this upload"):
        site.client.files.delete(file)
    site.client.fine_tuning.jobs.cancel(job.id)
    assert site.client.files.delete(file).deleted
    late = site.client.fine_tuning.jobs.create(model=MODEL, training_file=site.upload(chats()))
    with site.database.transaction() as session:
        session.execute(delete(UploadRow))
    fine_tuning.advance_waiting(site.database, SilentBell(), settings)
    error = site.client.fine_tuning.jobs.retrieve(late.id).error
    assert error is not None and (error.code, error.param) == ("invalid_training_file", "training_file")


def test_what_a_job_joined_of_two_files_goes_with_the_second_of_them(site: Site) -> None:
    first, second = site.upload(chats()), site.upload(chats(20, first=900), "held-out.jsonl")
    wanted: dict[str, Any] = {"model": MODEL, "training_file": first, "validation_file": second}
    site.client.fine_tuning.jobs.cancel(site.client.fine_tuning.jobs.create(**wanted).id)
    with site.database.reading() as session:
        names = [part.file for row in session.scalars(select(UploadRow)) for part in row.parts]
    assert len(names) == 4
    site.client.files.delete(first)
    with site.database.reading() as session:
        assert len(session.scalars(select(UploadRow.id)).all()) == 2
    assert all(map(site.worker.files.exists, names)), "the joined upload has them"
    site.client.files.delete(second)
    with site.database.reading() as session:
        assert session.scalars(select(UploadRow.id)).all() == []
    assert not any(map(site.worker.files.exists, names))


def test_a_database_that_fails_after_the_commit_neither_fails_the_answer_nor_the_job(
    site: Site, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_args: object) -> None:
        raise OperationalError("SELECT", {}, Refused("the server closed the connection"))

    with monkeypatch.context() as broken:
        broken.setattr(fine_tuning, "_dataset", away)
        job = site.client.fine_tuning.jobs.create(model=MODEL, training_file=site.upload(chats()))
    assert job.status == "validating_files"
    site.work()
    assert site.client.fine_tuning.jobs.retrieve(job.id).status == "queued"
    assert len(list(site.client.fine_tuning.jobs.list())) == 1


def test_a_job_that_fails_by_a_mistake_of_vezna_keeps_no_other(
    site: Site, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: dict[str, Any] = {"model": MODEL, "training_file": site.upload(chats())}
    bad, good = (site.client.fine_tuning.jobs.create(**wanted) for _job in range(2))
    dataset_of = fine_tuning._dataset

    def failing(session: Any, bell: Any, job_id: int) -> Any:
        if job_id == 1:
            raise ValueError("secret")
        return dataset_of(session, bell, job_id)

    monkeypatch.setattr(fine_tuning, "_dataset", failing)
    site.work()
    assert site.client.fine_tuning.jobs.retrieve(good.id).status == "queued"
    ended = site.client.fine_tuning.jobs.retrieve(bad.id)
    assert ended.status == "failed" and ended.error is not None and ended.error.code == "server_error"
    assert "ValueError" in (ended.error.message or "") and "secret" not in (ended.error.message or "")


@pytest.mark.parametrize(
    ("limit", "words"), [({"device_seconds": 0}, "of device time"), ({"stored_bytes": 1}, "may store")]
)
def test_a_user_without_room_gets_no_job(
    limit: dict[str, Any], words: str, database: Database, settings: Settings, files: Files
) -> None:
    installation = Installation(settings.model_copy(update={"login": "required"}))
    with site_of(database, settings, files, installation.app, installation.token(Role.MEMBER)) as site:
        file = site.upload(chats())
        with database.transaction() as session:
            user = session.get_one(UserRow, installation.ids[Role.MEMBER])
            quotas.change_limits(session, user, LimitChange.model_validate(limit))
        with pytest.raises(openai.BadRequestError, match=words) as refused:
            site.client.fine_tuning.jobs.create(model=MODEL, training_file=file)
        assert refused.value.code == "insufficient_quota"
        assert list(site.client.fine_tuning.jobs.list()) == []


def test_a_dataset_name_that_is_taken_gets_a_number(site: Site) -> None:
    file = site.upload(chats())
    site.work()
    with site.database.transaction() as session:
        session.add(DatasetRow(name=file.replace("file", "finetune"), version=1, owner_id=77, status="failed"))
    jobs = [site.client.fine_tuning.jobs.create(model=MODEL, training_file=file, seed=seed) for seed in range(2)]
    site.work()
    for job in jobs:
        job = site.client.fine_tuning.jobs.retrieve(job.id)
        assert job.status == "queued", job.error
        assert job.model_extra is not None and job.model_extra["vezna"]["dataset"].startswith("finetune-1-2")


def test_a_job_whose_run_was_deleted_has_ended_and_bare_v1_answers_in_openais_form(site: Site) -> None:
    job = site.client.fine_tuning.jobs.create(model=MODEL, training_file=site.upload(chats()))
    site.work()
    run = site.run(site.client.fine_tuning.jobs.retrieve(job.id))
    site.succeed(run.id)
    with site.database.transaction() as session:
        deletion.delete_run(session, site.worker.files, run.id)
    ended = site.client.fine_tuning.jobs.retrieve(job.id)
    assert ended.status == "cancelled" and ended.finished_at
    with pytest.raises(openai.BadRequestError, match="has already ended"):
        site.client.fine_tuning.jobs.cancel(job.id)
    bare = httpx2.get(str(site.client.base_url).rstrip("/"), headers={"accept": "text/html"})
    assert bare.status_code == 404 and bare.json()["error"]["type"] == "not_found_error"


@pytest.mark.slow
def test_pages_go_on_behind_what_was_deleted_and_errors_speak_the_clients_language(site: Site) -> None:
    first, second, third = (site.upload(chats(first=n), f"{n}.jsonl") for n in (0, 100, 200))
    site.client.files.delete(second)
    assert [file.id for file in site.client.files.list(after=second).data] == [first]
    assert [file.id for file in site.client.files.list(after=second, order="asc").data] == [third]
    with pytest.raises(openai.NotFoundError, match="There is no file last"):
        site.client.files.list(after="last")
    plain = site.upload(b'{"text": "no conversation"}\n' * 40, "texts.jsonl")
    job = site.client.fine_tuning.jobs.create(model=MODEL, training_file=plain)
    with pytest.raises(openai.NotFoundError, match="There is no event ftevent-9"):
        site.client.fine_tuning.jobs.list_events(job.id, after="ftevent-9")
    site.work()
    theirs = site.client.with_options(default_headers={"Accept-Language": "bg"})
    error = theirs.fine_tuning.jobs.retrieve(job.id).error
    assert error is not None and "Във файла няма разговори" in (error.message or ""), error
