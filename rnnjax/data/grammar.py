"""A sample of tagged sentences for a machine with no network: a grammar with words, parts of speech and chunks.

Many words have two parts of speech ("plans", "close", "that"), which their neighbours decide, and many others are made
up of syllables and an ending that tells theirs ("-ness", "-ize", "-ous"), so that words never seen can be tagged.
"""

import random

ONSETS = "b br d dr f fl g gr k kl l m n p pl r s st t tr v w"
VOWELS = "a e i o u ea oo"
CODAS = "b d g k l m n p r s t x"
ENDINGS = {"NN": "ness tion ment ity", "VB": "ize ify", "JJ": "ous ful able", "RB": "ly"}
NOUNS = "plan report share market company offer trade price bank rule sale court head cut drop"
"""Also verbs, with the same endings."""
ADJECTIVES = "close open clear late new big quiet"
"""Of which some are also verbs: to close, to open, to clear."""
VERBS = "close open clear say know buy sell meet"
NAMES = "Smith Boston Tokyo Lee Garcia Vienna Mercer Nordic"
ADVERBS = "widely soon never often nearly"
PREPOSITIONS = "in of for with by on from"
MODALS = "will may should can"

Token = tuple[str, str, str]


def tagged_sentences(count: int, seed: int) -> list[list[Token]]:
    """Make up sentences of (word, part of speech, chunk tag), in the tag sets of CoNLL-2000."""
    draw = random.Random(seed)
    return [_sentence(draw) for _ in range(count)]


def _sentence(draw: random.Random) -> list[Token]:
    tokens = _clause(draw)
    if draw.random() < 0.25:
        opening = _prepositional(draw)
        opening[0] = (opening[0][0].capitalize(), *opening[0][1:])
        tokens = [*opening, (",", ",", "O"), *tokens]
    elif draw.random() < 0.2:
        tokens = [*tokens, (",", ",", "O"), (_one_of(draw, "and but"), "CC", "O"), *_clause(draw)]
    if tokens[0][1] != "NNP":
        tokens[0] = (tokens[0][0][0].upper() + tokens[0][0][1:], *tokens[0][1:])
    return [*tokens, (".", ".", "O")]


def _clause(draw: random.Random, depth: int = 0) -> list[Token]:
    subject, is_plural = _noun_phrase(draw)
    tokens = [*subject, *_verb_phrase(draw, is_plural)]
    kind = draw.random()
    if kind < 0.15 and depth < 2:
        return [*tokens, ("that", "IN", "B-SBAR"), *_clause(draw, depth + 1)]
    if kind < 0.3:
        return [*tokens, ("to", "TO", "B-VP"), (_verb(draw), "VB", "I-VP"), *_noun_phrase(draw)[0]]
    tokens += _noun_phrase(draw)[0]
    while draw.random() < 0.35:
        tokens += _prepositional(draw)
    if draw.random() < 0.15:
        tokens.append((_adverb(draw), "RB", "B-ADVP"))
    return tokens


def _noun_phrase(draw: random.Random) -> tuple[list[Token], bool]:
    """A noun phrase, and whether it is plural."""
    kind = draw.random()
    if kind < 0.12:
        word = _one_of(draw, "it he they we")
        return _chunk("NP", [(word, "PRP")]), word in ("they", "we")
    if kind < 0.3:
        names = draw.sample(NAMES.split(), draw.choice([1, 1, 2]))
        return _chunk("NP", [(name, "NNP") for name in names]), False
    is_plural = draw.random() < 0.4
    if is_plural and draw.random() < 0.3:
        opening = [(str(draw.randint(2, 999)), "CD")]
    else:
        opening = draw.choice([[("the", "DT")], [("these" if is_plural else "that", "DT")], [("its", "PRP$")]])
    while draw.random() < 0.35:
        opening.append((_adjective(draw), "JJ"))
    if draw.random() < 0.2:
        opening.append((_noun(draw), "NN"))
    noun = _noun(draw)
    return _chunk("NP", [*opening, (_with_s(noun), "NNS") if is_plural else (noun, "NN")]), is_plural


def _verb_phrase(draw: random.Random, is_plural: bool) -> list[Token]:
    verb, adverb = _verb(draw), [(_adverb(draw), "RB")] if draw.random() < 0.2 else []
    kind = draw.random()
    if kind < 0.35:
        return _chunk("VP", [*adverb, (_with_s(verb), "VBZ") if not is_plural else (verb, "VBP")])
    if kind < 0.7:
        return _chunk("VP", [(_one_of(draw, MODALS), "MD"), *adverb, (verb, "VB")])
    auxiliary = ("are", "VBP") if is_plural else ("is", "VBZ")
    stem = verb[:-1] if verb.endswith("e") else verb
    return _chunk("VP", [auxiliary, *adverb, (stem + "ing", "VBG")])


def _prepositional(draw: random.Random) -> list[Token]:
    return [(_one_of(draw, PREPOSITIONS), "IN", "B-PP"), *_noun_phrase(draw)[0]]


def _chunk(kind: str, words: list[tuple[str, str]]) -> list[Token]:
    return [(word, pos, f"{'I' if number else 'B'}-{kind}") for number, (word, pos) in enumerate(words)]


def _noun(draw: random.Random) -> str:
    return _one_of(draw, NOUNS) if draw.random() < 0.6 else _made_up(draw, "NN")


def _verb(draw: random.Random) -> str:
    return _one_of(draw, f"{NOUNS} {VERBS}") if draw.random() < 0.7 else _made_up(draw, "VB")


def _adjective(draw: random.Random) -> str:
    return _one_of(draw, ADJECTIVES) if draw.random() < 0.6 else _made_up(draw, "JJ")


def _adverb(draw: random.Random) -> str:
    return _one_of(draw, ADVERBS) if draw.random() < 0.6 else _made_up(draw, "RB")


def _made_up(draw: random.Random, pos: str) -> str:
    return "".join(_one_of(draw, part) for part in (ONSETS, VOWELS, CODAS, ENDINGS[pos]))


def _one_of(draw: random.Random, words: str) -> str:
    return draw.choice(words.split())


def _with_s(word: str) -> str:
    return word[:-1] + "ies" if word[-1] == "y" and word[-2] not in "aeiou" else word + "s"
