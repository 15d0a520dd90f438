"""The table of all bAbI tasks says what was measured, and only that."""

import babi


def test_the_table():
    column = {str(task): {"test_accuracy": task / 100} for task in range(1, 21)}
    lines = babi.page({"10k-rnn": {"2": {"test_accuracy": 0.5}}, "1k-memnn": {}, "1k-rnn": column}).splitlines()
    start = lines.index("| task | Keras, 1k | rnn, 1k | rnn, 10k |")
    assert lines[start + 2 : start + 5] == [
        "| 1 single supporting fact | 52.1 | 1.0 | - |",
        "| 2 two supporting facts | 37.0 | 2.0 | 50.0 |",
        "| 3 three supporting facts | 20.5 | 3.0 | - |",
    ]
    assert lines[-1] == "| mean | 57.8 | 10.5 |  |"
    assert len(babi.KERAS) == 20
