"""Make tokenizer_<model>.jsonl.gz: strings and the token ids that llama.cpp gives them.

    python make_tokenizer_golden.py smollm2=SmolLM2-135M-Instruct.Q4_1.gguf gemma3-270m=….gguf

Needs llama-cpp-python (0.3.36 made the committed files) and hypothesis; pellucid itself does not.
First line: what made the file. Every other line is a list of three:

    text
    ids with add_special=false, parse_special=false
    ids with add_special=true, parse_special=true

A text with a lone surrogate has no UTF-8 form, so llama.cpp cannot be asked; both ids are null, and
the tokenizer must refuse it.
"""

# ruff: noqa: E501, SIM905 (lists of strings, in few lines)
from __future__ import annotations

import gzip
import json
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import llama_cpp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HERE = Path(__file__).parent
GENERATED = 2400

SPECIALS = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>",
    "<filename>", "<gh_stars>", "<issue_start>", "<jupyter_code>", "<empty_output>",
    "<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "[multimodal]", "<unused0>", "<unused17>",
    "<unused6241>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>",
    "<table>", "</table>", "<h1>", "<code>", "</s>", "<s>", "<strong>", "<0x0A>", "<0xC3>",
    "<|eot_id|>", "[INST]", "<think>",
]  # fmt: skip

PLAIN = [
    "", " ", "  ", "\n", "\n\n", "\t", "\r", "\r\n", "\0", "a", "A", "0", "é", "漢", "🙂", "▁", "▁▁",
    "Hello, world!", "hello world", " hello", "hello ", "  hello", "Hello  World   again",
    "The quick brown fox jumps over the lazy dog.", "THE QUICK BROWN FOX", "camelCaseAndPascalCase",
    "snake_case_name", "kebab-case-name", "supercalifragilisticexpialidocious",
    "I'm you're he's she'll we've they'd can't", "I'M YOU'RE HE'S SHE'LL WE'VE", "'s 't 're 've",
    "O'Brien's d'accord l'été", "rock 'n' roll", "'", "''", "'''", "'sister", "’s don’t",
    "0123456789", "1 12 123 1234 12345", "3.14159", "1,000,000.00", "-273.15", "1e-10", "0xDEADBEEF",
    "192.168.0.1", "2024-02-29T23:59:59Z", "½ ¾ ²³ ⅷ Ⅷ ① ⑳", "٠١٢٣٤", "१२३", "৪৫৬", "１２３",
    "a1b2c3", "10abc", "abc10", "7 8  9   10", "(555) 123-4567",
    "\n0", "\n\n0", "\n\n  0", "  0", "   00", " \n 0", "\t0", "\n\n a", "\n\n  a", " \n a", "a \n b",
    "a\n", "a\n\n", "a \n", "a  \n\n", " \t \n ", "\u00a0", "a\u00a0b", "\u2003x", "\u3000\u3000あ",
    "\u200b", "a\u200bb", "\ufeffBOM", "\u2028", "\u2029", "\u0085", "x\u0085y", "\x1c\x1d",
    "\u1680 ", "def f(x):\n    return x + 1\n", "if (a == b) {\n\t\tc();\n}\n", "x=1;y=2",
    "#include <stdio.h>\nint main(void) { return 0; }", "SELECT * FROM t WHERE a >= 10 AND b <> 'x';",
    '{"key": [1, 2.5, null, true, "text"]}', "<html><body><p>Hi</p></body></html>",
    "<ul><li>a</li></ul>", "<a href='x'>y</a>", "> </div>", "> </", ">▁</", "a> </b", "f(x)->y::z",
    "https://example.org/a/b?c=d&e=f#g", "user.name+tag@example.co.uk", "C:\\Users\\x\\y.txt",
    "$E = mc^2$", "\\frac{1}{2}", "!!!", "???", "...", "…", "—–-", "«»", "a/b", "*bold* _it_ `code`",
    "# Title\n\n- one\n- two\n\n1. three\n", "| a | b |\n|---|---|\n| 1 | 2 |",
    "Größe, Maß, Öl, Übung", "naïve café résumé", "cafe\u0301", "Ångström", "İstanbul ıi", "ŁÓDŹ",
    "Привет, мир!", "Здравствуйте", "Γειά σου Κόσμε", "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया",
    "สวัสดีชาวโลก", "こんにちは世界", "コンピューター", "漢字かな交じり文", "你好，世界！", "繁體中文",
    "안녕하세요 세계", "\u1112\u1161\u11ab", "ភាសាខ្មែរ", "ქართული", "Հայերեն", "አማርኛ", "ไทย 123",
    "Tiếng Việt", "𝕳𝖊𝖑𝖑𝖔", "ｆｕｌｌ　ｗｉｄｔｈ", "ﬁ ﬂ ﬀ", "ǅ ǆ Ǆ", "ʰ ʷ ˠ",
    "😀😅😭", "👩‍👩‍👧‍👦", "👍🏽", "🇩🇪🇫🇷", "❤️", "☀️🌤️⛅", "a😀b", "😀 😀", "#️⃣1️⃣", "🏴󠁧󠁢󠁥󠁮󠁧󠁿",
    "\x00\x01\x02\x03", "\x07\x08\x0b\x0c\x0e", "\x1b[31mred\x1b[0m", "\x7f", "\x80\x9f", "a\x00b",
    "\ue000\uf8ff", "\ufffd", "\uffff", "\ufdd0", "\U0010ffff", "\U000e0001", "\U000f0000",
    "\u0378", "\U0001f9ff\U0001faff", "\u0300\u0301", "\u202eabc\u202c", "a\u00adb", "\u2060",
    "<", "<|", "<|im", "<|im_end|", "|>", "<<|im_end|>>", "<|im_start|>user\nHi<|im_end|>\n",
    "<|im_start|><|im_end|>", "x<|endoftext|>y<|endoftext|>", " <|im_end|> ", "<|IM_END|>",
    "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n", "<bos><bos>", "<unused", "<un",
    "a<eos>", "<eos> b", "<|im_end|>\n\n\n0", "<table>\n\n<tr>", "</s></s>", "[multimodal] x",
    "▁a", "a▁b", "▁ ▁", "Ġ", "ĠĠa", "Ċ", "a b", "aaa aaaa aaaaaaaa",
    *[" " * n for n in (3, 4, 7, 8, 15, 16, 30, 31, 32, 33, 63, 64, 100)],
    *["\n" * n for n in (3, 4, 5, 30, 31, 32, 33, 62, 63)],
    *["\t" * n for n in (2, 3, 8, 30, 31, 32)],
    *[" " * n + c for n in (1, 2, 3, 4, 5, 8, 17) for c in "a0.é漢😀\n"],
    *["x" + space * n + c for space in "\n\t " for n in (1, 2, 3, 5) for c in "a0("],
    *["=" * n for n in (2, 4, 8, 16, 79)], "ab" * 40, "a" * 100, "0" * 50, "漢" * 40, "😀" * 20,
    "lorem ipsum dolor sit amet " * 8,
]  # fmt: skip

SURROGATES = ["\ud800", "\udfff", "a\ud800", "\udc00b", "ok \ud83d not", "\udc80\udcff"]

SPACES = st.text(" \n\t\r\u00a0\u2003\u3000", min_size=1, max_size=9)
WORDS = st.sampled_from(
    "the of and to in is was for that with as his on be at by had from not are this have new York "
    "Über straße Москва 東京 日本語 서울 مدينة दिल्ली def return import self lambda null 0 1 7 42 "
    "1984 100000 I'm don't it's ... -- ?! () [] {} <> == != += // /* */ http www .com @ # $ % &".split()
)
PIECES = st.one_of(
    WORDS,
    SPACES,
    st.text(" \n", min_size=1, max_size=12),
    st.text("0123456789", min_size=1, max_size=6),
    st.text(max_size=4),
    st.text(st.characters(categories=("So", "Sk", "Sm", "Sc")), min_size=1, max_size=3),
    st.text(st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF), min_size=1, max_size=4),
    st.text(st.characters(min_codepoint=0x1F300, max_codepoint=0x1FAFF), min_size=1, max_size=2),
    st.text(st.characters(max_codepoint=0x9F, categories=["Cc"]), min_size=1, max_size=3),
    st.text(st.characters(categories=("Mn", "Mc", "Lm", "Nl", "No", "Lt")), min_size=1, max_size=3),
)
TEXTS = st.one_of(
    st.lists(PIECES, min_size=2, max_size=8).map("".join),
    st.lists(st.one_of(WORDS, SPACES), min_size=3, max_size=14).map("".join),
    st.lists(WORDS, min_size=2, max_size=10).map(" ".join),
    st.lists(st.one_of(st.sampled_from(SPECIALS), PIECES), min_size=1, max_size=5).map("".join),
    st.lists(st.one_of(st.sampled_from(SPECIALS), WORDS, SPACES), min_size=2, max_size=6).map(
        "".join
    ),
    st.text(max_size=12),
)


def generated(count: int) -> Iterator[str]:
    """`count` different strings, the same ones each time."""
    found: dict[str, None] = {}

    @settings(
        max_examples=2 * count,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(TEXTS)
    def collect(text: str) -> None:
        if len(found) < count and 1 < len(text) <= 120:
            found.setdefault(text)

    collect()
    yield from found


def strings() -> list[str]:
    hand_picked = [*PLAIN, *SPECIALS, *(f"a{name}b {name}\n" for name in SPECIALS), *SURROGATES]
    return list(dict.fromkeys([*hand_picked, *generated(GENERATED)]))


def write(name: str, path: str, texts: list[str]) -> None:
    llama = llama_cpp.Llama(path, vocab_only=True, verbose=False)  # frees the model when it goes

    def ids(text: str, special: bool) -> list[int] | None:
        try:
            data = text.encode()
        except UnicodeEncodeError:
            return None
        found: list[int] = llama._model.tokenize(data, special, special)
        return found

    header: dict[str, Any] = {
        "model": Path(path).name,
        "llama_cpp_python": llama_cpp.__version__,
        "hypothesis": hypothesis.__version__,
        "python": platform.python_version(),
        "strings": len(texts),
    }
    lines = [header, *([text, ids(text, False), ids(text, True)] for text in texts)]
    data = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines).encode()
    target = HERE / f"tokenizer_{name}.jsonl.gz"
    target.write_bytes(gzip.compress(data, mtime=0))
    print(f"{target.name}: {len(texts)} strings, {target.stat().st_size} bytes")


def main() -> None:
    texts = strings()
    for argument in sys.argv[1:]:
        name, _, path = argument.partition("=")
        write(name, path, texts)


if __name__ == "__main__":
    main()
