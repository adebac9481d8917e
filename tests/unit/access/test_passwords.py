from __future__ import annotations

import time

import pytest

from app.access.passwords import LONGEST, check_new, hash_password, is_right
from app.errors import Invalid


def test_a_password_is_right_or_not() -> None:
    kept = hash_password("Zürich in March")
    assert kept.startswith("$argon2id$")
    assert is_right("Zu\u0308rich in March", kept)  # the same letters from another keyboard
    assert not is_right("Zurich in March", kept)
    assert not is_right("", kept)
    assert not is_right("x" * (LONGEST + 1), kept)
    assert not is_right("anything \ud800", kept)
    assert not is_right("nobody has this password", None)
    assert not is_right("x", "no hash at all")


def test_a_name_that_nobody_has_takes_as_long() -> None:
    kept = hash_password("correct horse battery")
    is_right("warm", None)

    def seconds(given: str | None) -> float:
        times = []
        for _ in range(5):
            began = time.process_time()
            is_right("wrong horse battery", given)
            times.append(time.process_time() - began)
        return min(times)

    assert 0.5 < seconds(kept) / seconds(None) < 2


@pytest.mark.parametrize("password", ["", "short", "aaaaaaaaaaaaaaa", "abababababab", "ada ada ada", "adalovelace" + "a", "x" * 300])
def test_weak_ones_are_refused(password: str) -> None:
    with pytest.raises(Invalid):
        check_new(password, "adalovelace" if "lovelace" in password else "ada")


def test_a_few_words_do() -> None:
    check_new("four words in a row", "ada")
