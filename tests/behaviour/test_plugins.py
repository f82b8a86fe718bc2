"""Stores and codecs that an installed package plugs in; the package is the one of the manual."""

from __future__ import annotations

from pathlib import Path

import pytest
from sites import Site, shelf_in


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def shelf(tmp_path: Path) -> Site:
    return shelf_in(tmp_path)


BROKEN_STORES = {
    "its import fails": ("import nothing_of_this_name\n", "No module named 'nothing_of"),
    "its function is missing": ("", "has no attribute 'make'"),
    "it is no function": ("make = 3\n", "has no __call__()"),
    "it fails": ("def make(url, seed):\n    1 / 0\n", "ZeroDivisionError"),
    "it makes no store": ("def make(url, seed):\n    return {}\n", "a dict, which is no Store"),
}

BROKEN_CODECS = {
    "its import fails": ("import nothing_of_this_name\n", "nothing_of_this_name"),
    "it has half of its functions": ("to_plain = print\n", "has no from_plain()"),
    "it fails": (
        "def to_plain(value):\n    1 / 0\nfrom_plain = print\n",
        "broken of broken 2.3 failed: ZeroDivisionError",
    ),
}

FORGED = {
    "a refused value": ("!plugin", '["shelf.Money", ["1", "EUR"]]', "an amount is"),
    "another codec's name": ("!plugin", '["os.system", "true"]', "install the package"),
    "no name": ("!plugin", '[3, "true"]', "without a name"),
}


class TestStores:
    def test_a_url_of_its_scheme_makes_its_store(self, shelf: Site) -> None:
        assert "SqliteStore" in shelf.run("""
            from cachewrap import Cache
            cache = Cache.from_url("sqlite:entries.db?cache_seed=7&ttl=60")
            with cache:
                cache.set("key", "value")
            assert cache.get("key") == "value"
            assert cache.policy.ttl == 60
            assert cache.url.endswith("/entries.db?cache_seed=7"), cache.url
            assert cache.reseed(8).get("key") is None
            print(type(cache._store).__name__)
        """)

    def test_another_program_finds_the_entries(self, shelf: Site) -> None:
        program = """
            from cachewrap import Cache, llm_cached
            @llm_cached(version=1)
            def ask(prompt):
                print("upstream")
                return prompt.upper()
            with Cache.from_url("sqlite:entries.db"):
                print(ask("hi"))
        """
        assert shelf.run(program).split() == ["upstream", "HI"]
        assert shelf.run(program).split() == ["HI"]

    def test_an_unknown_scheme_is_told_what_there_is(self, shelf: Site) -> None:
        assert "memory, sqlite in front" in shelf.run("""
            from cachewrap import Cache
            try:
                Cache.from_url("shelf:somewhere")
            except ValueError as error:
                print(error)
        """)

    def test_an_option_of_its_own_reaches_it(self, site: Site) -> None:
        site.install(
            "odd",
            "def make(url, seed):\n    raise ValueError(f'{url} {seed}')\n",
            {"cachewrap.stores": {"odd": "odd:make"}},
        )
        assert "'odd://host/a?size=3 7'" in site.run("""
            from cachewrap import Cache
            try:
                Cache.from_url("odd://host/a?size=3&cache_seed=7")
            except ValueError as error:
                print(error)
        """)

    @pytest.mark.parametrize("name", BROKEN_STORES)
    def test_a_broken_one_is_an_error_that_names_it(self, site: Site, name: str) -> None:
        code, message = BROKEN_STORES[name]
        site.install("broken", code, {"cachewrap.stores": {"broken": "broken:make"}}, "2.3")
        out = site.run("""
            from cachewrap import Cache, ConfigurationError
            assert Cache.from_url("memory://")  # the others work
            try:
                Cache.from_url("broken://host")
            except ConfigurationError as error:
                print(error)
        """)
        assert message in out
        assert "broken" in out

    def test_two_of_one_scheme_are_an_error(self, site: Site) -> None:
        for name in ("one", "two"):
            site.install(name, "make = print\n", {"cachewrap.stores": {"same": f"{name}:make"}})
        out = site.run("""
            from cachewrap import Cache
            try:
                Cache.from_url("same://host")
            except ValueError as error:
                print(error)
        """)
        assert "one:make of one 1.0 and by the plug-in two:make of two 1.0" in out


KEEP = """
    from cachewrap import Cache, llm_cached
    @llm_cached(version=1, cache=Cache.disk(cache_path_root="kept"))
    def price(amount):
        import shelf
        print("upstream")
        return {"total": [shelf.Money(150, "EUR")], "of": amount}
"""


class TestCodecs:
    def test_a_value_of_its_type_comes_back(self, shelf: Site) -> None:
        program = (
            KEEP
            + """
    import shelf
    found = price(shelf.Money(1, "EUR"))
    assert found == {"total": [shelf.Money(150, "EUR")], "of": shelf.Money(1, "EUR")}
"""
        )
        assert shelf.run(program) == "upstream"
        assert shelf.run(program) == ""

    def test_it_tells_arguments_apart(self, shelf: Site) -> None:
        program = (
            KEEP
            + """
    import shelf
    for cents in (1, 2, 1):
        price(shelf.Money(cents, "EUR"))
"""
        )
        assert shelf.run(program).split() == ["upstream", "upstream"]

    def test_reading_loads_the_codec_of_the_stored_name(self, shelf: Site) -> None:
        program = (
            KEEP
            + """
    import sys
    assert "shelf" not in sys.modules
    print(price(1)["total"][0].parts())
"""
        )
        assert shelf.run(program).splitlines() == ["upstream", "(150, 'EUR')"]
        assert shelf.run(program) == "(150, 'EUR')"

    def test_without_the_package_the_entry_is_kept(self, shelf: Site) -> None:
        plain = """
            import warnings
            from cachewrap import Cache, MissingTypeError
            warnings.simplefilter("error")
            cache = Cache.disk(cache_path_root="kept")
            try:
                print(cache.get("key"))
            except MissingTypeError as error:
                print(error)
        """
        shelf.run("""
            import shelf
            from cachewrap import Cache
            Cache.disk(cache_path_root="kept").set("key", shelf.Money(1, "EUR"))
        """)
        points = next(shelf.folder.glob("*.dist-info")) / "entry_points.txt"
        declared = points.read_text()
        points.write_text("")
        assert "install the package that has a codec for it" in shelf.run(plain)
        points.write_text(declared)
        assert "Money object" in shelf.run(plain)

    @pytest.mark.parametrize("name", BROKEN_CODECS)
    def test_a_broken_one_costs_a_warning_that_names_it(self, site: Site, name: str) -> None:
        code, message = BROKEN_CODECS[name]
        site.install("thing", "class Thing: pass\n", {})
        site.install("broken", code, {"cachewrap.codecs": {"thing.Thing": "broken"}}, "2.3")
        out = site.run("""
            import thing, warnings
            from cachewrap import Cache, UnkeyableError, llm_cached
            @llm_cached(version=1, cache=Cache.memory())
            def make(*given):
                return thing.Thing()
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                assert type(make()) is thing.Thing  # what was paid for is returned
            print(*(warning.message for warning in caught))
            try:
                make(thing.Thing())
            except UnkeyableError as error:
                print(error)
        """).splitlines()
        assert len(out) == 2
        for line in out:
            assert message in line

    @pytest.mark.parametrize("name", FORGED)
    def test_a_forged_entry_is_refused(self, shelf: Site, name: str) -> None:
        tag, inner, message = FORGED[name]
        out = shelf.run(f"""
            import json, msgspec
            from cachewrap import CodecError
            from cachewrap.format import codec
            from cachewrap.entry import Kind
            stored = b"\\x01" + msgspec.msgpack.encode({{"{tag}": json.loads('{inner}')}})
            try:
                codec.decode(Kind.VALUE, stored)
            except CodecError as error:
                print(error)
        """)
        assert message in out

    def test_a_codec_that_makes_another_type_is_refused(self, site: Site) -> None:
        site.install("thing", "class Thing: pass\n", {})
        code = "def to_plain(value): return 1\ndef from_plain(plain): return 1\n"
        site.install("broken", code, {"cachewrap.codecs": {"thing.Thing": "broken"}})
        out = site.run("""
            import thing
            from cachewrap import CodecError
            from cachewrap.format import codec
            try:
                codec.decode(*codec.encode(thing.Thing()))
            except CodecError as error:
                print(error)
        """)
        assert "made a builtins.int and not a thing.Thing" in out

    def test_its_own_key_is_asked_for(self, site: Site) -> None:
        code = """
class Thing:
    def __init__(self, name, noise): self.name, self.noise = name, noise
def to_plain(value): return [value.name, value.noise]
def from_plain(plain): return Thing(*plain)
def cache_key(value): return value.name
"""
        site.install("thing", code, {"cachewrap.codecs": {"thing.Thing": "thing"}})
        assert (
            site.run("""
            import thing
            from cachewrap import llm_cached
            @llm_cached(version=1)
            def ask(given): ...
            print(len({ask.cache_key(thing.Thing(*given)) for given in ("ab", "ac", "bc")}))
        """)
            == "2"
        )


def test_importing_the_package_looks_for_no_plug_in(shelf: Site) -> None:
    out = shelf.run("""
        import sys
        from cachewrap import Cache, llm_cached
        cache = Cache.memory()
        cache.set("key", {"plain": [1, 2.5, None]})
        cache.get("key")
        print("shelf" in sys.modules)
        from cachewrap import plugins
        print(plugins._declared.cache_info().misses)
    """)
    assert out.split() == ["False", "0"]
