"""What is to be made is read whole, and everything that is wrong with it is told with its place."""

from __future__ import annotations

import base64
import csv
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hailuo_async._cli.jobfile import joblist
from hailuo_async._cli.jobfile import text as job_text
from hailuo_async._cli.jobfile.joblist import Problem, ReadOptions
from hailuo_async._cli.jobfile.rows import LIBRARY_NAMES
from hailuo_async._cli.jobfile.text import MAX_FILE_BYTES
from hailuo_async.errors import ConfigError
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo
from hailuo_async.models import MODELS

from ..support.joblists import URL, read, read_lines, read_list, told

# --- Lines of JSON ---


def test_a_line_in_the_librarys_terms_is_a_job(folder: Path) -> None:
    found = read_lines(
        folder,
        {
            "first_frame_image": "cat.png",
            "key": "a",
            "prompt": "[Pan left] A cat",
            "duration": 10.0,
            "resolution": None,
        },
        {"first_frame_image": URL, "key": "b", "model": "minimax-i2v-01", "prompt_optimizer": False},
        {"first_frame_image": "../in/dog.png", "key": "c", "fast_pretreatment": True, "fit": True},
        {"last_frame_image": "cat.png", "key": "d"},
        {"last_frame_image": "cat.png", "first_frame_image": URL, "key": "e", "model": "hailuo-02-fl2v"},
        {"first_frame_image": URL, "key": "f", "model": "/api/v1/minimax/hailuo-9/async", "duration": 8},
    )
    assert found.problems == ()
    assert found.jobs == {
        "a": ImageToVideo(folder / "cat.png", "[Pan left] A cat", duration=10, key="a"),
        "b": ImageToVideo(URL, model="minimax-i2v-01", prompt_optimizer=False, key="b"),
        "c": ImageToVideo(folder / "../in/dog.png", fast_pretreatment=True, fit=True, key="c"),
        "d": FirstLastFrameToVideo(folder / "cat.png", key="d"),
        "e": FirstLastFrameToVideo(folder / "cat.png", first_frame_image=URL, key="e"),
        "f": ImageToVideo(URL, model="/api/v1/minimax/hailuo-9/async", duration=8, key="f"),  # type: ignore[arg-type]
    }
    assert found.places == {key: f"in/jobs.jsonl, line {number}" for number, key in enumerate("abcdef", 1)}
    assert found.seconds == 10 + 6 + 6 + 6 + 6 + 8


def test_a_line_of_the_services_client_is_a_job(folder: Path) -> None:
    found = read_lines(
        folder,
        {"modelSlug": "minimax/hailuo-2.3-i2v", "body": {"first_frame_image": URL, "duration": 6}, "key": "a"},
        {"modelSlug": "minimax/hailuo-02-fl2v", "body": {"last_frame_image": "cat.png"}, "key": "b", "fit": True},
    )
    assert found.problems == ()
    assert found.jobs == {
        "a": ImageToVideo(URL, duration=6, key="a"),
        "b": FirstLastFrameToVideo(folder / "cat.png", fit=True, key="b"),
    }


def test_a_job_asks_for_what_its_line_says_and_no_more(folder: Path) -> None:
    job = read_lines(folder, {"first_frame_image": URL, "duration": 6, "prompt": None, "fast_pretreatment": False}).jobs
    assert [job.options for job in job.values()] == [{"duration": 6, "fast_pretreatment": False}]


def test_every_model_takes_the_defaults_of_its_kind(folder: Path) -> None:
    image = {True: "last_frame_image", False: "first_frame_image"}
    found = read_lines(folder, *({image[row.takes_last_frame]: URL, "model": slug} for slug, row in MODELS.items()))
    assert ([job.model for job in found.jobs.values()], found.problems) == (list(MODELS), ())


def test_blank_lines_line_ends_and_a_byte_order_mark_do_not_count(folder: Path) -> None:
    line = json.dumps({"first_frame_image": URL, "key": "画"}, ensure_ascii=False)
    found = read(folder, "jobs.ndjson", f"\ufeff\r\n \t\r\n{line}\r\n\n".encode())
    assert (found.places, found.problems) == ({"画": "in/jobs.ndjson, line 3"}, ())


ONE = f'{{"first_frame_image":"{URL}"}}'
NO_WHOLE_OBJECT = "must be one whole JSON object; found"
NO_BODY = "must be an object with the fields of a request; found"
TOO_MUCH = "must be one JSON object of plain values; found one too long or too deep"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", [": holds no job"]),
        ("\n \n", [": holds no job"]),
        ('{"prompt": "half', [f", line 1, column 12: {NO_WHOLE_OBJECT} its end missing"]),
        (f'{ONE}\n{{"prompt": ', [f", line 2, column 11: {NO_WHOLE_OBJECT} its end missing"]),
        ('{"fit": True}', [f", line 1, column 9: {NO_WHOLE_OBJECT} 'T': Expecting value"]),
        ("# mine", [f", line 1, column 1: {NO_WHOLE_OBJECT} '#': JSON has no comments"]),
        (f"{ONE}{ONE}", [f", line 1, column 52: {NO_WHOLE_OBJECT} more after its end"]),
        ("[1]\nnull", [f", line 1: {NO_WHOLE_OBJECT} list", f", line 2: {NO_WHOLE_OBJECT} nothing"]),
        ("[" * 100_000, [f", line 1: {TOO_MUCH}"]),
        (f'{{"duration": {"9" * 5000}}}', [f", line 1: {TOO_MUCH}"]),
        ('{"body": [], "modelSlug": "x"}', [f", line 1: body: {NO_BODY} list"]),
        ('{"modelSlug": "x"}', [f", line 1: body: {NO_BODY} nothing"]),
        ('{"body": {}}', [", line 1: modelSlug: is required beside a body"]),
        (
            f'{{"key": "a", "first_frame_image": "{URL}", "key": "b", "x": {{"y": 1, "y": 2}}}}',
            [
                ", line 1: y: stands twice in its object: take one out",
                ", line 1: key: stands twice in its object: take one out",
                f", line 1: x: is no field; the fields are {', '.join(LIBRARY_NAMES)}",
            ],
        ),
    ],
)  # fmt: skip
def test_a_line_that_is_no_job_is_told_with_its_place(text: str, problems: Sequence[str], folder: Path) -> None:
    found = read(folder, "jobs.jsonl", text)
    assert told(found) == [f"jobs.jsonl{problem}" for problem in problems]


GOOD = {"first_frame_image": URL}
LAST = {"last_frame_image": URL}
NO_IMAGE = "must be an http(s) URL, a data URL, or the path of a picture; got"
NO_FILE = "found No such file or directory: in/{}; must be a file that can be read"
NO_HOST = "a URL must have a valid host and port"
NO_KEY = "must be 1 to 200 characters, without control characters or line breaks, or None"
KNOWN = f"must be one of {', '.join(MODELS)}, or a whole path that begins with /api/; got"
SMALL = {"first_frame_image": "small.png"}
SLUG = {"modelSlug": "minimax/hailuo-2.3-i2v"}


@pytest.mark.parametrize(
    ("row", "problems"),
    [
        ({}, ["first_frame_image: is required"]),
        ({"model": "hailuo-02-fl2v", **GOOD}, ["last_frame_image: is required"]),
        ({"model": "hailuo-2.3-i2v", **GOOD, **LAST}, ["last_frame_image: is not taken by hailuo-2.3-i2v"]),
        ({**LAST, "fast_pretreatment": True}, ["fast_pretreatment: is not taken by hailuo-02-fl2v"]),
        ({**LAST, "fast_pretreatment": False}, []),
        ({**GOOD, "promt": "x"}, ["promt: is no field; did you mean prompt?"]),
        ({**GOOD, "x" * 999: 1}, [f"{'x' * 500}…: is no field; the fields are {', '.join(LIBRARY_NAMES)}"]),
        ({"first_frame_image": ["x?sig=1"]}, [f"first_frame_image: {NO_IMAGE} list"]),
        ({"first_frame_image": " "}, [f"first_frame_image: {NO_IMAGE} ' '"]),
        ({"first_frame_image": "s3://x/y?sig=1"}, [f"first_frame_image: {NO_IMAGE} 's3://x/y'"]),
        ({"first_frame_image": "https://x:y?sig=1"}, [f"first_frame_image: (URL) found https://x:y; {NO_HOST}"]),
        ({"first_frame_image": "a\n.png"}, [r"first_frame_image: (a\n.png) " + NO_FILE.format(r"a\n.png")]),
        ({"first_frame_image": "."}, ["first_frame_image: (in) found a directory; must be a regular file"]),
        (
            {"first_frame_image": "~no-one/cat.png"},
            [f"first_frame_image: (cat.png) {NO_FILE.format('~no-one/cat.png')}"],
        ),
        ({**GOOD, "model": "hailuo", "key": [1]}, [f"model: {KNOWN} 'hailuo'", f"key: {NO_KEY}; got [1]"]),
        ({**GOOD, "model": 2.3}, ["model: must be a model's slug or its path, a str; got 2.3"]),
        ({**GOOD, "prompt": float("nan")}, ["prompt: must be a str of 1 to 2000 characters, or None; got nan"]),
        (
            {**SMALL, "prompt": "", "duration": True, "resolution": "4K", "prompt_optimizer": "no", "fit": 1, "kee": 1},
            [
                "kee: is no field; did you mean key?",
                "prompt: must be a str of 1 to 2000 characters, or None; got '0 characters'",
                "duration: must be a whole number of seconds; got True",
                "resolution: must be 768P or 1080P for 6 s of hailuo-2.3-i2v; got '4K'",
                "prompt_optimizer: must be True or False; got 'no'",
                "fit: must be True or False; got 1",
                "first_frame_image: (small.png) found 300 x 300 px; short side must be over 300 px",
            ],
        ),
        (
            {**SLUG, "body": {"duration": 7, "promt": "x", "key": "a"}, "prompt": "x"},
            [
                "prompt: is no field; did you mean body.prompt?",
                "body.promt: is no field; did you mean body.prompt?",
                "body.key: is no field; the fields are modelSlug, body.first_frame_image, body.last_frame_image, "
                "body.prompt, body.duration, body.resolution, body.prompt_optimizer, body.fast_pretreatment, key, fit",
                "body.first_frame_image: is required",
                "body.duration: must be 6 or 10 seconds for hailuo-2.3-i2v; got 7",
            ],
        ),
        ({"modelSlug": "openai/sora", "body": GOOD}, [f"modelSlug: {KNOWN} 'openai/sora'"]),
    ],
)  # fmt: skip
def test_all_that_is_wrong_with_a_line_is_told_by_field(
    row: dict[str, object], problems: Sequence[str], folder: Path
) -> None:
    found = read_lines(folder, {**GOOD, "key": "before"}, row)
    assert told(found) == [f"jobs.jsonl, line 2: {problem}" for problem in problems]
    assert len(found.jobs) == (1 if problems else 2)


def test_a_path_that_no_file_can_have_is_told_like_one_that_none_has(folder: Path) -> None:
    (problem,) = told(read_lines(folder, {"first_frame_image": "\0"}))
    assert problem.startswith(r"jobs.jsonl, line 1: first_frame_image: (\x00) found ")


# --- CSV ---


def test_a_row_of_csv_is_a_job_and_its_place_the_line_that_it_begins_on(folder: Path) -> None:
    found = read(
        folder,
        "jobs.CSV",
        "\ufeff first_frame_image,last_frame_image , prompt,duration,prompt_optimizer,fast_pretreatment,key,fit\r\n"
        'cat.png,, "two\r\nlines, ""quoted""",10,yes,0,a,TRUE\r\n'
        "\r\n"
        ",,,,,,,\r\n"
        f",{URL},,6.0,No,,b,false",
    )
    assert found.problems == ()
    assert found.places == {"a": "in/jobs.CSV, line 2", "b": "in/jobs.CSV, line 6"}
    assert found.jobs == {
        "a": ImageToVideo(folder / "cat.png", 'two\r\nlines, "quoted"', duration=10, key="a", fit=True),
        "b": FirstLastFrameToVideo(URL, duration=6, prompt_optimizer=False, key="b"),
    }
    assert found.jobs["b"].options == {"prompt_optimizer": False, "duration": 6}


NO_NUMBER = "must be a whole number of seconds"
NO_RECORD = "cannot be read as CSV, quoted as RFC 4180 says:"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("", [": holds no job"]),
        ("first_frame_image,prompt\n,\n", [": holds no job"]),
        (
            "image;prompt,key\na.png;b,c",
            [", line 1: may be read with commas or semicolons: use one of them"],
        ),
        ('first_frame_image,"prompt\n', [f", line 1: {NO_RECORD} unexpected end of data"]),
        (
            "a.png,promt\nb.png,x",
            [
                ", line 1: must name the columns, one of them image (or first_frame_image) or last_frame_image: "
                "put a row above it such as key,image,prompt"
            ],
        ),
        (
            "first_frame_image,,promt,key,Key\na.png,,,,",
            [
                ", line 1: has a column without a name: name it, or take it out",
                ", line 1, column key: stands in the header 2 times, as key and Key: take all but one out",
                f", line 2, column first_frame_image: (a.png) {NO_FILE.format('a.png')}",
                ", line 1, column promt: is no field; did you mean prompt?; no prompt has {promt} either",
            ],
        ),
        (
            'first_frame_image,prompt,duration,fit\n,"a\nb",7,maybe\n'
            'cat.png,a, b,6,\ncat.png,"a"b,6,\ncat.png\ncat.png,"half',
            [
                ", line 2, column first_frame_image: is required",
                ", line 2, column duration: must be 6 or 10 seconds for hailuo-2.3-i2v; got 7",
                ", line 2, column fit: must be True or False; got 'maybe'",
                ", line 4: has 5 cells under 4 columns; a cell that holds a separator stands in quotes",
                f", line 5: {NO_RECORD} ',' expected after '\"'",
                ", line 6: has 1 cells under 4 columns",
                f", line 7: {NO_RECORD} unexpected end of data",
            ],
        ),
        ("fit,first_frame_image\n-1,cat.png", [", line 2, column fit: must be True or False; got '-1'"]),
        ("duration,first_frame_image\n6m,cat.png", [f", line 2, column duration: {NO_NUMBER}; got '6m'"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_csv_is_told_by_line_and_column(text: str, problems: Sequence[str], folder: Path) -> None:
    assert told(read(folder, "jobs.csv", text)) == [f"jobs.csv{problem}" for problem in problems]


def test_a_cell_may_hold_an_image_and_the_limit_of_the_process_stays_what_it_was(folder: Path) -> None:
    image = "data:image/png;base64," + base64.b64encode((folder / "cat.png").read_bytes() + bytes(200_000)).decode()
    limit = csv.field_size_limit()
    found = read(folder, "jobs.csv", f'first_frame_image,key\n"{image}",a\n')
    assert (found.jobs, found.problems) == ({"a": ImageToVideo(image, key="a")}, ())
    assert csv.field_size_limit() == limit


# --- Files as spreadsheets save them ---

SHEET = "Key{0}Image{0}Prompt{0}Duration\r\n 1 {0}cat.png{0}un café{0}6,0\r\n{0}{0}{0}\r\n"
SAVED = {"1": ImageToVideo(Path("in/cat.png"), "un café", duration=6, key="1")}


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("jobs.csv", SHEET.format(";").encode(), "CSV with semicolons"),
        ("jobs.csv", SHEET.format(";").encode("utf-8-sig"), "CSV with semicolons"),
        ("jobs.csv", SHEET.format(";").encode("cp1252"), "cp1252, CSV with semicolons"),
        ("jobs.txt", SHEET.format("\t").encode("utf-16"), "UTF-16, CSV with tabs"),
        ("jobs.tsv", SHEET.format("\t").encode("utf-16-le"), "UTF-16, CSV with tabs"),
        ("jobs.csv", ("sep=;\r\n" + SHEET.format(";")).encode(), "CSV with semicolons"),
        ("jobs.csv", SHEET.format(";").replace("\r\n", ";;;\r\n").encode(), "CSV with semicolons"),
        ("jobs.csv", SHEET.format(";").replace("\r\n", "\r").encode(), "CSV with semicolons"),  # an old Mac's
    ],
)
def test_a_file_is_read_as_it_was_saved_and_what_it_was_read_as_is_told(
    name: str, content: bytes, note: str, folder: Path
) -> None:
    found = read(folder, name, content)
    assert (found.jobs, told(found), found.notes) == (SAVED, [], (f"in/{name}: read as {note}",))


def test_what_is_plain_is_read_without_a_word(folder: Path) -> None:
    found = read(folder, "jobs.csv", SHEET.replace("6,0", "6").format(","))
    assert (found.jobs, found.notes) == (SAVED, ())


def test_an_encoding_that_is_named_is_taken(folder: Path) -> None:
    (folder / "jobs.csv").write_bytes(SHEET.format(";").encode("mac_roman"))
    found = read_list(folder / "jobs.csv", ReadOptions(encoding="mac_roman"))
    assert (found.jobs, found.notes) == (SAVED, ("in/jobs.csv: read as mac_roman, CSV with semicolons",))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-7"])
def test_an_encoding_that_is_named_may_be_any_that_there_is(encoding: str, folder: Path) -> None:
    (folder / "jobs.csv").write_bytes(SHEET.format(";").encode(encoding))
    assert read_list(folder / "jobs.csv", ReadOptions(encoding=encoding)).jobs == SAVED


def test_what_is_no_utf_16_after_its_mark_is_told(folder: Path) -> None:
    content = "Key\nImage\n".encode("utf-16") + b"\x00\xd8\x00\xd8"
    assert told(read(folder, "jobs.csv", content)) == [
        "jobs.csv: is not UTF-16 as a whole: save it as UTF-8, or name its --encoding"
    ]


def test_an_array_of_objects_is_a_list_of_jobs(folder: Path) -> None:
    objects = [{"image": URL, "key": key} for key in "ab"]
    for text in (json.dumps(objects, indent=2), json.dumps(objects), "\n".join(map(json.dumps, objects))):
        assert list(read(folder, "jobs.json", text).jobs) == ["a", "b"]
    places = read(folder, "jobs.json", json.dumps(objects, indent=2)).places
    assert places == {"a": "in/jobs.json, line 2", "b": "in/jobs.json, line 6"}


ONE_ARRAY = "must be one array of objects, with commas between them and a ] at its end, and nothing after it"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (f'[{{"image": "{URL}"}}', f", line 1: {ONE_ARRAY}"),
        (f'[{{"image": "{URL}"}},\n', f", line 2: {ONE_ARRAY}"),
        (f'[{{"image": "{URL}"}} {{"image": "{URL}"}}]', f", line 1: {ONE_ARRAY}"),
        (f'[{{"image": "{URL}"}}]\n\n[{{"image": "{URL}"}}]', f", line 1: {ONE_ARRAY}"),
        ("[", f", line 1: {ONE_ARRAY}"),
        ('[{"image": ', f", line 1, column 12: {NO_WHOLE_OBJECT} its end missing"),
        ('[{"image":\n [[[[]]]]}]', f", line 1: image: {NO_IMAGE} list"),
    ],
)
def test_an_array_that_is_cut_or_followed_by_more_is_told(text: str, problem: str, folder: Path) -> None:
    assert told(read(folder, "jobs.json", text)) == [f"jobs.json{problem}"]


# --- Prompts that speak of their row ---


def test_a_prompt_is_filled_in_from_its_row(folder: Path) -> None:
    rows = "image,key,mood,prompt\ncat.png,a,calm,A {mood} {Name} {{name}}\ndog.png,b,wild,\n"
    (folder / "jobs.csv").write_text(rows)
    found = read_list(folder / "jobs.csv", ReadOptions(defaults={"prompt": "[Push in] {name}, {mood}"}))
    assert [job.prompt for job in found.jobs.values()] == ["A calm cat {name}", "[Push in] dog, wild"]
    lines = read_lines(folder, {"image": "https://x.y/a%20b.jpg?s=1", "key": "c", "hour": 7, "prompt": "{name} {hour}"})
    assert [job.prompt for job in lines.jobs.values()] == ["a b 7"]


def test_a_name_that_a_row_does_not_have_is_told_with_its_line(folder: Path) -> None:
    empty = read(folder, "jobs.csv", "image,key,mood,prompt\ncat.png,a,,A {mood} cat\n")
    assert told(empty) == [
        "jobs.csv, line 2, column prompt: {mood} is empty here; {{mood}} means the word in braces itself"
    ]
    unknown = read_lines(folder, {"image": URL, "prompt": "A {mood} cat"})
    assert told(unknown) == [
        "jobs.jsonl, line 1: prompt: {mood} names nothing here; there is {image}, {prompt}, {name}; "
        "{{mood}} means the word in braces itself"
    ]


def test_an_option_that_a_pictures_name_breaks_is_named_as_what_is_wrong(folder: Path) -> None:
    odd = "caf\udce9.png"  # in Latin-1 on the disk
    (folder / "pictures").mkdir()
    (folder / "cat.png").rename(folder / "pictures" / odd)
    found = read_list(folder / "pictures", ReadOptions(defaults={"prompt": "{name}"}))
    assert [line.partition(".png: ")[2].partition(":")[0] for line in told(found)] == ["prompt"]


# --- Text ---


NO_TEXT = "is no text in UTF-8, there is {}: save it as UTF-8, or name its --encoding"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (ONE.encode("utf-32"), ", line 1: is in UTF-32: save it as UTF-8"),
        (b"x\n a\0b\n", ", line 2, column 3: " + NO_TEXT.format("a NUL")),
        ("\n画 \n".encode() + b"\xe9\n", ", line 3, column 1: " + NO_TEXT.format("the byte 0xe9")),
        ("кошка".encode("cp1251"), ", line 1, column 1: " + NO_TEXT.format("the byte 0xea")),
        ("un café noir".encode("mac_roman"), ", line 1, column 7: " + NO_TEXT.format("the byte 0x8e")),
        ("猫が窓辺で眠る".encode("cp932"), ", line 1, column 1: " + NO_TEXT.format("the byte 0x94")),
    ],
)
@pytest.mark.parametrize("name", ["jobs.jsonl", "jobs.csv", "jobs.json"])
def test_what_is_no_text_or_may_be_read_in_two_ways_is_told_with_its_place(
    name: str, content: bytes, problem: str, folder: Path
) -> None:
    assert told(read(folder, name, content)) == [f"{name}{problem}"]


def test_a_file_that_is_too_large_is_not_read(folder: Path) -> None:
    with (folder / "jobs.jsonl").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    (problem,) = read_list(folder / "jobs.jsonl").problems
    assert str(problem) == "in/jobs.jsonl: has more than 1024 MiB: name images as files in it, or split it"


def test_a_line_that_is_too_long_and_more_jobs_than_anybody_means_are_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_text, "MAX_LINE_BYTES", 2**20)
    assert told(read(folder, "jobs.jsonl", "\n" + "x" * (2**20 + 1))) == [
        "jobs.jsonl, line 2: has more than 1 MiB: name images as files in it"
    ]
    monkeypatch.setattr(joblist, "MAX_JOBS", 3)
    many = read_lines(folder, *({"image": URL, "key": key} for key in "abcde"))
    assert told(many) == [
        "jobs.jsonl, line 4: asks for more than 3 jobs, and at most so many are taken at once: split it"
    ]


def test_what_cannot_be_read_at_all_raises(folder: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("ends in .csv, .tsv, .jsonl, .ndjson or .json")):
        read_list(folder / "cat.png")
    with pytest.raises(FileNotFoundError):
        read_list(folder / "none.csv")
    with pytest.raises(FileNotFoundError):
        read_list(folder / "none.jsonl")


def test_a_problem_is_one_short_line_whatever_is_in_it() -> None:
    problem = Problem("a\x1b[2J\udcff.jsonl", "画\n", "x" * 1000)
    assert str(problem) == rf"a\x1b[2J\udcff.jsonl: 画\n: {'x' * 500}…"


# --- Whatever it is ---

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([URL, "cat.png"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_ROW = st.dictionaries(st.sampled_from([*LIBRARY_NAMES, "modelSlug"]), _JSON)
_SERVICE_ROW = st.fixed_dictionaries({"modelSlug": _JSON | st.sampled_from(list(MODELS)), "body": _ROW | _JSON})
_CELLS = st.lists(st.sampled_from([*LIBRARY_NAMES, URL, "", "\n", "\r", '"', ",", "6", "no", "\0", "é"]), max_size=40)


def survives(name: str, content: bytes) -> None:
    """Every job has its key and its place, and every problem is one line that can be printed."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(content)
        found = read_list(Path(folder) / name)
    assert [job.key for job in found.jobs.values()] == list(found.jobs) == list(found.places)
    assert all(str(problem).isprintable() and len(str(problem)) < 2000 for problem in found.problems)
    assert found.jobs or found.problems


@settings(max_examples=150, derandomize=True)
@given(st.binary(max_size=200), st.sampled_from(["jobs.jsonl", "jobs.csv"]))
def test_any_bytes_are_jobs_or_problems(content: bytes, name: str) -> None:
    survives(name, content)


@pytest.mark.slow
@settings(max_examples=150, derandomize=True)
@given(st.lists(_ROW | _SERVICE_ROW, max_size=3))
def test_any_values_are_jobs_or_problems(rows: list[dict[str, object]]) -> None:
    survives("jobs.jsonl", "\n".join(json.dumps(row) for row in rows).encode())


@settings(max_examples=150, derandomize=True)
@given(_CELLS)
def test_any_cells_are_jobs_or_problems(cells: list[str]) -> None:
    survives("jobs.csv", ("first_frame_image,prompt,duration,key\n" + "".join(cells)).encode())
