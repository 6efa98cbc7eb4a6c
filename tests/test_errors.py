"""What is printed and stored: no passwords, and nothing that cannot be written."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.commands._output import command_line, finish, finish_json
from ossnet.errors import UserError, printable
from ossnet.output.logging import configure_logging

SECRET = "wJalr+7MD=EX"
URLS = [
    f"s3://AKIA:{SECRET}@bucket/store",
    f"https://name:{SECRET}@mlflow.example.org:5000/a?b=c",
    f"postgresql+psycopg://me:{SECRET}@db.example.org/runs",
    f"redis://:{SECRET}@host",
]


@pytest.mark.parametrize("url", URLS)
def test_no_password_is_printed(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    finish({"MLflow": url}, follow_up=command_line("evaluate", "--data", url))
    finish_json({"mlflow": url})
    print(UserError(url, expected=f"not {url}", found=url, remedy=f"leave out {url}"))
    logging.getLogger("ossnet").handlers.clear()  # they hold the error stream of an earlier test
    configure_logging()
    logging.getLogger("ossnet.somewhere").info("reading %s", url)
    printed = capsys.readouterr()
    assert SECRET not in printed.out + printed.err
    host = url.partition("@")[2].split("/")[0]
    assert printed.out.count(f":***@{host}") == 7
    assert f":***@{host}" in printed.err


@pytest.mark.parametrize(
    "text",
    ["s3://bucket/a:b@c", "http://127.0.0.1:8265", "a time of 10:30 @ home", "sqlite:///a/b:c@d.db", "C://x"],
)
def test_what_is_no_password_stays(text: str) -> None:
    assert printable(text) == text


@given(st.text(st.characters(codec="utf-8")).filter(lambda text: "://" not in text))
def test_other_text_stays(text: str) -> None:
    assert printable(text) == text
