import os
import re
import subprocess
import sys
import zipfile
from collections import Counter

import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from rnnjax.data import builtin
from rnnjax.data.builtin import python_source, reviews
from rnnjax.errors import RunError


def words(text):
    return re.findall(r"[a-z']+", text.lower())


def test_reviews_are_balanced_distinct_and_drawn_from_the_seed():
    texts, labels = reviews(2001, 3)
    assert Counter(labels) == {"negative": 1001, "positive": 1000}
    assert len({tuple(words(text)) for text in texts}) == 2001
    assert all(8 <= len(words(text)) <= 60 for text in texts)
    assert (texts, labels) == reviews(2001, 3)
    assert texts != reviews(2001, 4)[0]
    assert labels != sorted(labels)
    assert len({word for text in texts for word in words(text)}) < 300


def test_no_word_belongs_to_one_class():
    texts, labels = reviews(6000, 0)
    counts = {label: Counter() for label in ("negative", "positive")}
    for text, label in zip(texts, labels, strict=True):
        counts[label].update(set(words(text)))
    for word, count in (counts["negative"] + counts["positive"]).items():
        assert count >= 50, word
        assert 0.25 < counts["positive"][word] / count < 0.75, word


@pytest.mark.parametrize("vectorizer", [CountVectorizer, TfidfVectorizer])
@pytest.mark.parametrize("seed", [0, 1])
def test_bags_of_words_do_badly_on_reviews(vectorizer, seed):
    texts, labels = reviews(10_000, seed)
    bags = vectorizer()
    model = LogisticRegression(max_iter=1000).fit(bags.fit_transform(texts[:8000]), labels[:8000])
    assert 0.6 < model.score(bags.transform(texts[8000:]), labels[8000:]) < 0.77


def test_the_grammar_means_what_it_says():
    # Each review's label again, by reading it as the grammar's docstring says.
    sign = {word: label for label, group in builtin.ADJECTIVES.items() for word in group.split()}
    sign |= {word: label for label, group in builtin.NOUNS.items() for word in group.split()}
    other = {"negative": "positive", "positive": "negative"}
    negators = re.compile(r"\b(not|never|hardly|nobody|far from|anything but|nothing)\b")

    def clause(text):
        (word,) = [word for word in words(text) if word in sign]
        return other[sign[word]] if negators.search(text) else sign[word]

    def remark(sentence):
        if match := re.match(r"although (.*), (.*)", sentence):
            return clause(match[2])
        if match := re.match(r"(.*), (although|even though) ", sentence):
            return clause(match[1])
        if match := re.match(r".*(?:, (?:but|yet)|; however,) (.*)", sentence):
            return clause(match[1])
        verdict = clause(sentence)
        return other[verdict] if re.search("disagree|untrue|wrong", sentence) else verdict

    for text, label in zip(*reviews(500, 5), strict=True):
        sentences = [sentence for sentence in text.split(".") if set(words(sentence)) & set(sign)]
        assert {remark(sentence.strip()) for sentence in sentences} == {label}, text


def test_python_source():
    text = python_source()
    assert 500_000 < len(text) < 3_000_000
    assert set(text) <= {"\n", *map(chr, range(32, 127))}
    assert "class ArgumentParser(" in text
    assert text == python_source()


def test_python_source_imports_nothing_it_reads():
    program = "import sys; from rnnjax.data.builtin import python_source; python_source(); print('pdb' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("False\n", "")


def test_python_source_from_a_zip_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "library.zip", "w") as library:
        library.writestr("zipped_module.py", "print('é')  # " + "x" * builtin.MIN_CHARACTERS)
    program = (
        "from rnnjax.data import builtin; builtin.SOURCE_MODULES = ['zipped_module'];"
        "print(builtin.python_source()[:12])"
    )
    path = os.pathsep.join([str(tmp_path / "library.zip"), *sys.path])
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert run.stdout == "print('')  #\n"


def test_a_python_without_sources(monkeypatch):
    monkeypatch.setattr(builtin, "SOURCE_MODULES", ["no_such_module", "sys", "_json"])
    with pytest.raises(RunError, match="--text FILE"):
        python_source()
