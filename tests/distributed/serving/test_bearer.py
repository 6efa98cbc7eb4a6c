"""Tokens: whose they are, where they lie, and what is no token."""

import os
from pathlib import Path

import pytest

from ossnet.distributed.serving.bearer import VARIABLE, digest, given_token, is_right, new_token
from ossnet.errors import UserError

TOKEN = "a-token-of-the-user"


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv(VARIABLE, raising=False)


def test_a_new_token_is_its_users_alone_and_goes_with_the_server(tmp_path: Path) -> None:
    with new_token(8000) as (token, path):
        assert path == tmp_path / "state" / "ossnet" / "serve-8000.token"
        assert path.read_text().strip() == token
        assert [path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777] == [0o600, 0o700]
        with new_token(8001) as (other, _):
            assert other != token
        assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert not path.exists()


def test_a_state_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(UserError, match=f"for the token.*set {VARIABLE}"), new_token(8000):
        pass


def test_the_environments_token_is_taken_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert given_token(None) is None
    monkeypatch.setenv(VARIABLE, TOKEN)
    assert given_token(None) == TOKEN
    assert VARIABLE not in os.environ


def test_a_file_goes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    file.chmod(0o600)
    monkeypatch.setenv(VARIABLE, "another-token-of-the-user")
    assert given_token(file) == TOKEN
    assert not caplog.records
    file.chmod(0o644)
    assert given_token(file) == TOKEN
    assert "chmod 600" in caplog.text


@pytest.mark.parametrize(
    "text", ["", "short", "two words of a token", "tökens-of-the-user", "a" * 20 + "\n" + "b"]
)
def test_what_is_no_token_is_refused_and_not_printed(text: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(UserError, match="expected a token of 16 or more") as refused:
        given_token(file)
    assert not text or text not in str(refused.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none: expected a file with a token, found No such file"):
        given_token(tmp_path / "none")


def test_only_the_token_is_right() -> None:
    assert is_right(TOKEN, digest(TOKEN))
    assert not any(is_right(token, digest(TOKEN)) for token in ("", TOKEN[:-1], f"{TOKEN} ", "ö"))
