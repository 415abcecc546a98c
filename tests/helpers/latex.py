"""A strict reader of the LaTeX that msgd writes: an unknown command, a bare special character or a wrong row fails."""

import re

COMMANDS = {
    r"\textbackslash", r"\textasciitilde", r"\textasciicircum", r"\textless", r"\textgreater", r"\textbar",
    r"\textasciigrave", r"\ldots", r"\ss", r"\i", r"\j", r"\r", r"\v", r"\c", r"\{", r"\}", r"\$", r"\&", r"\#", r"\%",
    r"\_", r"\`", r"\'", r"\^", r"\~", r"\=", r'\"',
}  # fmt: skip
MATH = {
    r"\pm", r"\times", r"\infty", r"\leq", r"\geq", r"\approx", r"\|", r"\leftarrow", r"\rightarrow", r"\cdot",
    r"\alpha", r"\beta", r"\gamma", r"\delta", r"\epsilon", r"\eta", r"\theta", r"\lambda", r"\mu", r"\rho", r"\sigma",
    r"\tau",
}  # fmt: skip
TOKEN = re.compile(r"\\(?:[A-Za-z]+|.)|.", re.DOTALL)


def check_text(text):
    """Fail unless a text is balanced, in ASCII, and made of known commands and ordinary characters."""
    assert text.isascii(), text
    depth, math = 0, False
    for token in TOKEN.findall(text):
        if token == "$":
            math = not math
        elif token == "{":
            depth += 1
        elif token == "}":
            depth -= 1
            assert depth >= 0, text
        elif token.startswith("\\"):
            assert token in (MATH if math else COMMANDS), token
        else:
            assert token not in ("#%&_" if math else "#%&_^"), (token, text)
    assert depth == 0, text
    assert not math, text


def read_tables(source):
    """The tables of a file: caption, label, and rows of cells, the first of which are the heads."""
    lines = [line.strip() for line in source.splitlines() if line.strip() and not line.startswith("%")]
    tables = []
    while lines:
        assert [lines.pop(0) for _ in range(2)] == [r"\begin{table}", r"\centering"]
        caption = re.fullmatch(r"\\caption\{(.*)\}", lines.pop(0))[1]
        label = re.fullmatch(r"\\label\{(tab:[a-z0-9-]+)\}", lines.pop(0))[1]
        columns = re.fullmatch(r"\\begin\{tabular\}\{([lr]+)\}", lines.pop(0))[1]
        end = lines.index(r"\bottomrule")
        body, lines = lines[:end], lines[end:]
        assert [lines.pop(0) for _ in range(3)] == [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        assert (body[0], body[2]) == (r"\toprule", r"\midrule")
        rows = [_cells(line, len(columns)) for line in [body[1], *body[3:]]]
        check_text(caption)
        tables.append((caption, label, rows))
    return tables


def _cells(line, number):
    assert line.endswith(r" \\")
    cells = re.split(r"(?<!\\)&", line.removesuffix(r" \\"))
    assert len(cells) == number, line
    assert not line.startswith(("[", "*"))  # they would be arguments of the line end before
    for cell in cells:
        check_text(cell)
    return [cell.strip() for cell in cells]
