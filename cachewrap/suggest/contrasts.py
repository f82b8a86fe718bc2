"""Contrasts of two texts: words by which they may mean the opposite, however alike they are."""

from __future__ import annotations

from collections import Counter
from typing import Final

from cachewrap.patterns import later

_WORD: Final = later(r"[^\W_]+(?:['\u2019.,:/-][^\W_]+)*|[%°$€£¥+<>=*/^-]")
_NEGATIONS: Final = frozenset(
    "no non not never none nobody nothing neither nor cannot without unless except hardly barely"
    " nicht kein keine nie ohne pas jamais sans sin nunca".split()
)
_OPPOSITES: Final = frozenset(
    "above accept activate active after all allow always am any ascending asc avg before behind"
    " below best big block bottom buy cheap cheapest close closed cold connect create deactivate"
    " decrease decrypt delete deny desc descending disable disabled disallow disconnect down"
    " download each earliest east empty enable enabled encrypt end every exclude expensive export"
    " fail false fast few fewer first forward front from full good heaviest hide high highest hot"
    " in include increase inside install internal external invalid invert last late latest least"
    " left less light local lock lose loss loud low lower lowest many max maximum mean median min"
    " minimum minus more most negative new newest next north off offline old oldest on online only"
    " open out outside over part pass plus pm positive post pre previous private profit public"
    " pull push read receive reject remote remove resume right sell send short shortest show slow"
    " small smallest some south start stop subscribe sum tall tallest today tomorrow top true"
    " uninstall unlock unsubscribe under up upload upper valid weak west with win within worst"
    " write wrong yes yesterday younger youngest older long longest bad dark heavy".split()
)
_NUMBERS: Final = frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
    " fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty"
    " ninety hundred thousand million billion half quarter double twice once second third fourth"
    " fifth dozen single both".split()
)
_UNITS: Final = frozenset(
    "mm cm m km inch inches in foot feet ft yard yards mile miles mg g kg gram grams kilogram"
    " kilograms ounce ounces oz pound pounds lb lbs ton tons ml l liter liters litre litres gallon"
    " gallons ms second seconds minute minutes hour hours day days week weeks month months year"
    " years celsius fahrenheit kelvin c f k usd eur gbp jpy dollar dollars euro euros yen byte"
    " bytes bit bits kb mb gb tb kib mib gib hz khz mhz ghz watt watts kw kwh volt volts percent"
    " km/h mph degrees radians monday tuesday wednesday thursday friday saturday sunday january"
    " february march april may june july august september october november december".split()
)
_PREFIXES: Final = (
    "un",
    "dis",
    "in",
    "im",
    "ir",
    "il",
    "non",
    "de",
    "re",
    "anti",
    "mis",
    "over",
    "under",
)
_SENTENCE_BEGINS: Final = later(r"(?:^|[.!?:]\s+)[\"'(]*([^\W_]+)")


def turns(one: str, other: str) -> str:
    """What differs in two texts and may turn the meaning around; "" where nothing is known to.

    Args:
        one: a text.
        other: another one.
    """
    mine, theirs = _WORD.findall(one), _WORD.findall(other)
    first, second = ([_lower(word) for word in words] for words in (mine, theirs))
    counted, others = Counter(first), Counter(second)
    gone, came = list((counted - others).elements()), list((others - counted).elements())
    if not gone and not came:
        return "the same words in another order" if first != second else ""
    names = _names(one) | _names(other)
    telling = [
        [word for word in words if _turns(word, rest) or word in names]
        for words, rest in ((gone, others), (came, counted))
    ]
    return " / ".join(" ".join(words) for words in telling if words)


def _lower(word: str) -> str:
    return word.lower().replace("\u2019", "'")


def _turns(word: str, others: Counter[str]) -> bool:
    """Whether a word that one text has alone turns its meaning around."""
    if word in _NEGATIONS or word.endswith("n't") or not word.isalpha():
        return "'" not in word or word.endswith("n't")
    if word in _OPPOSITES or word in _NUMBERS or word in _UNITS:
        return True
    return any(
        word == prefix + other or other == prefix + word for other in others for prefix in _PREFIXES
    )


def _names(text: str) -> set[str]:
    """The words of a text that are written as names: with a capital inside a sentence."""
    begins = {match.start(1) for match in _SENTENCE_BEGINS.finditer(text)}
    found: set[str] = set()
    for match in _WORD.finditer(text):
        word = match[0]
        first = match.start() in begins and word[1:].islower()
        if word[:1].isupper() and not first and _lower(word).partition("'")[0] != "i":
            found.add(_lower(word))
    return found
