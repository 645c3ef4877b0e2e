"""Files to rows of text: CSV in any encoding and with any separator, Excel, JSON. Everything is bounded."""

import csv
import io
import re
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import openpyxl
from defusedxml.common import DefusedXmlException

from routing.imports import vendors
from routing.imports.errors import Unreadable

ENCODINGS = {"utf-8": "UTF-8", "utf-16": "UTF-16", "cp1251": "Windows-1251 (Cyrillic)", "cp1252": "Western (Latin-1)"}
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
MOST_COLUMNS = 100
UNPACKED = 400 * 1024 * 1024  # bytes of an Excel file when unpacked
STRINGS = 64 * 1024 * 1024  # ... of its texts, which are held in memory
PARTS = 500  # ... files in it
GUESSED_BY = 200_000  # characters
LARGEST = 1e30  # beyond it a number stays in the form with an exponent
EXCEL = b"PK\x03\x04"
OLD_EXCEL = b"\xd0\xcf\x11\xe0"


@dataclass(frozen=True, slots=True)
class Form:
    """How a file is written. `header` is the number of the line with the names of the columns, from 1."""

    kind: str  # csv, excel, json
    encoding: str = "utf-8"
    delimiter: str = ","
    header: int = 1


@dataclass(frozen=True, slots=True)
class Row:
    """`line` as a person counts it: of the text, of the sheet, or the number of the entry of a JSON list.

    `fault` says why the cells cannot be trusted, `skipped` why they are no price for sending.
    """

    line: int
    cells: list[str]
    fault: str = ""
    skipped: str = ""


def detect(content: bytes) -> Form:
    """Without the header, which guess.py finds. Raises Unreadable."""
    if not content.strip(b"\0 \r\n\t"):
        raise Unreadable("The file is empty.")
    if content.startswith(OLD_EXCEL):
        raise Unreadable("This is the old Excel form (.xls): save it as .xlsx or CSV.")
    if content.startswith(EXCEL):
        return Form("excel")
    encoding = guess_encoding(content)
    text = _text(content[:GUESSED_BY], encoding, "replace")
    if text.lstrip()[:1] in ("{", "["):
        return Form("json", encoding)
    return Form("csv", encoding, guess_delimiter(text))


def guess_encoding(content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    head = content[:GUESSED_BY]
    if head.count(0) > len(head) // 50:  # separators and digits have a zero byte there, other texts have none
        return "utf-16"
    try:
        content.decode("utf-8")
        return "utf-8"
    except UnicodeDecodeError:
        pass
    # Cyrillic words are runs of high bytes; in western languages such a letter stands among others.
    runs = re.findall(rb"[\x80-\xff]+", head)
    return "cp1251" if sum(len(run) > 1 for run in runs) * 2 > len(runs) else "cp1252"


def guess_delimiter(text: str) -> str:
    """What cuts most lines into the same number of cells, the more the better."""

    def score(delimiter: str) -> tuple[int, int]:
        widths = Counter(len(row) for row in csv.reader(text.splitlines()[:50], delimiter=delimiter) if row)
        width, times = max(widths.items(), key=lambda item: (item[0] > 1, item[1] * item[0]), default=(1, 0))
        return (times, width) if width > 1 else (0, 0)

    try:
        return max(DELIMITERS, key=score)
    except csv.Error:
        return ","


def read(content: bytes, form: Form) -> Iterator[Row]:
    """All rows, whatever they are, without empty ones. Raises Unreadable, also in the middle."""
    if form.kind == "excel":
        yield from _excel(content)
    elif form.kind == "json":
        for line, (cells, skipped) in enumerate(vendors.rows(_text(content, form.encoding)), start=0):
            yield Row(line, cells, skipped=skipped)
    else:
        yield from _csv(_text(content, form.encoding), form.delimiter)


def _text(content: bytes, encoding: str, errors: str = "strict") -> str:
    if encoding == "utf-16" and not content.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = content[:GUESSED_BY]
        encoding = "utf-16-be" if head[::2].count(0) > head[1::2].count(0) else "utf-16-le"
    try:
        return content.decode(encoding, errors).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise Unreadable(
            f"Line {line} is not {ENCODINGS.get(encoding[:6], encoding)}: choose another encoding."
        ) from None


def _csv(text: str, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Row(line, [], f"lines {line} to {reader.line_num}: {error}; is a quote not closed?")
            continue
        cells = [cell.strip().replace("\0", "\ufffd") for cell in cells]
        if any(cells):
            # An open quote swallows the lines after it: no row may vanish in the cell of another.
            fault = f"read as one row up to line {reader.line_num}: is a quote not closed?"
            yield Row(line, cells, fault if reader.line_num > line else "")


def _excel(content: bytes) -> Iterator[Row]:
    """The first sheet with anything in it; every other one is named by a fault, behind the last line.

    A formula comes as its text, which no column takes for a value.
    """
    _check_archive(content)
    try:
        book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, keep_links=False)
        read, last = "", 0
        for sheet in book.worksheets:
            try:
                for line, cells in _filled(sheet):
                    if read not in ("", sheet.title):
                        yield Row(last, [sheet.title], "another sheet with rows: save it as a file of its own")
                        break
                    read, last = sheet.title, line
                    yield Row(line, cells)
            except _BROKEN:
                if read in ("", sheet.title):
                    raise
                yield Row(last, [sheet.title], "another sheet, which cannot be read")
    except _BROKEN as error:
        raise Unreadable(f"Excel file cannot be read ({type(error).__name__}): save it again, or as CSV.") from None


_BROKEN = (zipfile.BadZipFile, KeyError, ValueError, TypeError, IndexError, SyntaxError, DefusedXmlException)


def _filled(sheet: Any) -> Iterator[tuple[int, list[str]]]:
    """The rows with anything in them, each with its line."""
    sheet.reset_dimensions()  # what the file says of its size is not believed
    for line, values in enumerate(sheet.iter_rows(max_col=MOST_COLUMNS, values_only=True), start=1):
        cells = [cell_text(value) for value in values]
        while cells and not cells[-1]:
            cells.pop()
        if cells:
            yield line, cells


def _check_archive(content: bytes) -> None:
    """Against files that unpack to gigabytes: zipfile reads no more of a part than its entry says."""
    try:
        parts = zipfile.ZipFile(io.BytesIO(content)).infolist()
    except zipfile.BadZipFile:
        raise Unreadable("This is no Excel file, though it begins like one.") from None
    sizes = {part.filename: part.file_size for part in parts}
    if len(parts) > PARTS or sum(part.file_size for part in parts) > UNPACKED:
        raise Unreadable(f"The Excel file unpacks to more than {UNPACKED // 2**20} MB: save it as CSV, or cut it.")
    if sizes.get("xl/sharedStrings.xml", 0) > STRINGS:
        raise Unreadable(f"The Excel file has more than {STRINGS // 2**20} MB of texts: save it as CSV, or cut it.")


def cell_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        # What Excel computed may end in ...0000001: 15 digits are what it is good for.
        text = f"{value:.15g}"
        return format(Decimal(text), "f") if "e" in text and abs(value) < LARGEST else text
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value).strip().replace("\0", "\ufffd")
