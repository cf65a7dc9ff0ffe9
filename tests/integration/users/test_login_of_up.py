"""`vezna up` where others may reach it: closed, and the terminal has the link of the first admin."""

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from app.settings import ROOT
from tests.support.rows.accounts import OWN_PAGE, PASSWORD
from tests.support.servers.forms import form_token
from tests.support.servers.running_stack import free_port, until


@contextmanager
def vezna_up(home: Path, **variables: str) -> Iterator[tuple[str, str]]:
    """The address of `vezna up` with these settings, and what it has printed."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if name != "VEZNA_LOGIN"}
    environment |= {"VEZNA_HOME": str(home), "PYTHONUNBUFFERED": "1", "VEZNA_WARM_SPARE": "false"} | variables
    printed = home.with_suffix(".log")
    with printed.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "up", "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        until(lambda: "Stop with Ctrl+C" in printed.read_text() or process.poll() is not None, 90)
        yield f"http://127.0.0.1:{port}", printed.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.mark.nightly
def test_it_is_closed_under_another_name_until_the_first_admin_is_created(tmp_path: Path) -> None:
    with vezna_up(tmp_path / "home", VEZNA_ALLOWED_HOSTS="vezna.example") as (url, printed):
        assert httpx2.get(f"{url}/api/v1/runs").status_code == 401
        [link] = re.findall(r"http://127\.0\.0\.1:\d+/first-admin/[\w-]{43}", printed)
        with httpx2.Client(base_url=url, headers=OWN_PAGE) as browser:
            form = {"email": "ada@example.org", "password": PASSWORD, "repeated": PASSWORD}
            form["csrf_token"] = form_token(browser.get(link))
            assert browser.post(link, data=form).status_code == 303
            assert browser.get("/api/v1/me").json()["role"] == "admin"
        assert httpx2.get(link).status_code == 404
        assert "No user exists yet" not in (tmp_path / "home" / "logs" / "web.log").read_text()
        written = [tmp_path / "home", *(tmp_path / "home").rglob("*")]
        assert len(written) > 10
        assert [path for path in written if stat.S_IMODE(path.lstat().st_mode) & 0o077] == []


@pytest.mark.nightly
def test_it_has_a_single_user_on_loopback_alone(tmp_path: Path) -> None:
    with vezna_up(tmp_path / "home") as (url, printed):
        assert "first-admin" not in printed
        assert httpx2.get(f"{url}/api/v1/runs").status_code == 200
        refused = httpx2.get(f"{url}/api/v1/runs", headers={"host": "vezna.example"})
        assert refused.status_code == 400


@pytest.mark.nightly
def test_the_demo_refuses_to_run_where_others_may_reach_it(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "VEZNA_LOGIN"}
    environment |= {"VEZNA_HOME": str(tmp_path / "home"), "VEZNA_HOST": "0.0.0.0"}
    command = [sys.executable, "-m", "app.cli", "demo"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1 and "vezna demo starts a server without login" in done.stderr
    assert not (tmp_path / "home").exists()
