"""Text that leaves the process has no secret of a URL, and published text no home directory."""

import pytest

from gestalt.support.addresses import published


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:password@host/x.tar?token=T#part", "https://host/x.tar"),
        ("https://host/x#token=T, s3://b/x#1", "https://host/x, s3://b/x#1"),
        ("simplecache::s3:/key:a@b?c@host:9/x?.tar#1", "simplecache::s3:/host:9/x?.tar#1"),
        ("[HTTPS://h/x?t=T,s3://h/y?t=T] me@x", "[HTTPS://h/x,s3://h/y] me@x"),
        ("https://h/{x.tar?token=T,y.tar?token=U}", "https://h/{x.tar}"),
        ("at 'https://h/x?t=T', or (ftp://u:p@h/y?z).", "at 'https://h/x', or (ftp://h/y)."),
        ("no file /here/https:/u:p q@h/x?t=T.", "no file /here/https:/h/x."),
        ("a? hf://sets/name@v1/x a@b /x#1?", "a? hf://sets/name@v1/x a@b /x#1?"),
        (
            "a row of https://h/x?t=a b, https://h/y?a b: not read",
            "a row of https://h/x, https://h/y: not read",
        ),
        ("s3://b/x?TO.KEN s3://b/y?-TOKEN | 1", "s3://b/x s3://b/y | 1"),
        ("s3://b/part-??-of-9.tar is not there", "s3://b/part-??-of-9.tar is not there"),
        ("http://user:pa/s s@host/x http://host:80/x@v1", "http://host/x http://host:80/x@v1"),
        ("data.cache=/home/me/c:/home/me", "data.cache=~/c:~"),
        ("/home/me2/a /data/home/me/b", "/home/me2/a /data/home/me/b"),
    ],
)
def test_published_text_has_neither_secrets_of_a_url_nor_the_home_directory(
    text, shown, monkeypatch
):
    monkeypatch.setenv("HOME", "/home/me")
    assert published(text) == shown
    monkeypatch.setenv("HOME", "/")
    assert published("/a/b") == "/a/b"
