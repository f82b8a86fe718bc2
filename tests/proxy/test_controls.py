"""What a request says of its own caching, in headers."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cachewrap.errors import ConfigurationError
from cachewrap.options import NONE, CallOptions
from cachewrap.proxy.controls import Controls, read_controls
from cachewrap.proxy.messages import Pairs


def pairs(**headers: str) -> Pairs:
    return [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        pytest.param({}, {}, id="nothing"),
        pytest.param({"x_stainless_lang": "js"}, {}, id="another-header"),
        pytest.param({"X_Cachewrap_Mode": "replay"}, {"mode": "replay"}, id="mode"),
        pytest.param({"x_cachewrap_mode": " Read_Only "}, {"mode": "read_only"}, id="any-case"),
        pytest.param({"x_cachewrap_seed": "7"}, {"cache_seed": "7"}, id="seed"),
        pytest.param({"x_cachewrap_seed": "none"}, {"cache_seed": None}, id="no-seed"),
        pytest.param({"x_cachewrap_sample": "3"}, {"sample": 3}, id="sample"),
        pytest.param({"x_cachewrap_ttl": "60"}, {"ttl": 60.0}, id="ttl"),
        pytest.param({"x_cachewrap_ttl": "never"}, {"ttl": None}, id="no-ttl"),
        pytest.param({"x_cachewrap_refresh": "1"}, {"mode": "refresh"}, id="refresh"),
        pytest.param({"x_cachewrap_refresh": "false"}, {}, id="no-refresh"),
        pytest.param(
            {"x_cachewrap_refresh": "true", "x_cachewrap_mode": "refresh"},
            {"mode": "refresh"},
            id="refresh-twice",
        ),
    ],
)
def test_options_of_a_call(headers: dict[str, str], told: dict[str, Any]) -> None:
    assert read_controls(pairs(**headers)).options == CallOptions(**told)


def test_what_is_the_proxys_own() -> None:
    given = pairs(x_cachewrap_pace="yes", x_cachewrap_token="t0ken")
    assert read_controls(given) == Controls(NONE, True, "t0ken")
    assert read_controls(pairs(x_cachewrap_pace="off")).pace is False


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        pytest.param("mode", "replai", "mode must be one of", id="mode"),
        pytest.param("seed", "a/b", "seed", id="seed-of-a-place"),
        pytest.param("seed", "", "seed", id="empty-seed"),
        pytest.param("seed", "x" * 201, "too long", id="long-seed"),
        pytest.param("sample", "-1", "number from 0 on", id="negative-sample"),
        pytest.param("sample", "²", "number from 0 on", id="odd-digit"),
        pytest.param("sample", "9" * 30, "number from 0 on", id="huge-sample"),
        pytest.param("ttl", "1h", "seconds, or never", id="ttl-of-words"),
        pytest.param("ttl", "0", "positive", id="ttl-of-nothing"),
        pytest.param("ttl", "nan", "positive", id="ttl-of-nan"),
        pytest.param("ttl", "inf", "positive", id="endless-ttl"),
        pytest.param("refresh", "perhaps", "true or false", id="refresh"),
        pytest.param("pace", "2x", "true or false", id="pace"),
        pytest.param("tll", "1", "there is no header x-cachewrap-tll", id="unknown"),
    ],
)
def test_what_cannot_be(name: str, value: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        read_controls([(f"x-cachewrap-{name}".encode(), value.encode())])


def test_contradiction() -> None:
    with pytest.raises(ConfigurationError, match="contradict"):
        read_controls(pairs(x_cachewrap_refresh="1", x_cachewrap_mode="replay"))
