"""Text files: what is a header, a delimiter, a decimal mark and an index column."""

import gzip
import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sgdnoise.data import IndexColumn, read_points
from sgdnoise.data._read import read_table

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(40, 3)).round(6)
WIDE = RNG.normal(size=(40, 10)).round(6)
COUNTS = RNG.poisson(5, size=(40, 10))


def table(array, delimiter=",", decimal=".", end=""):
    rows = [[str(cell).replace(".", decimal) for cell in row] for row in array]
    return "".join(delimiter.join(row) + end + "\n" for row in rows)


def quoted(text):
    return "".join(
        ",".join(f'"{cell}"' for cell in line.split(";")) + "\n" for line in text.splitlines()
    )


def written(folder, name, content):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder / name


XYZ = ["x", "y", "z"]
LAYOUTS = {
    "a comment.csv": ("# made by hand\n" + table(POINTS), None),
    "a comment, a header.csv": ("# made by hand\nx,y,z\n" + table(POINTS), XYZ),
    "names in a comment.txt": ("# x y z\n" + table(POINTS, " "), XYZ),
    "percent.txt": ("% a note of four words\n" + table(POINTS, "   "), None),
    "semicolons.csv": ("x;y;z\n" + table(POINTS, ";"), XYZ),
    "decimal commas.csv": ("x;y;z\n" + table(POINTS, ";", ","), XYZ),
    "decimal commas.tsv": ("x\ty\tz\n" + table(POINTS, "\t", ","), XYZ),
    "decimal commas.txt": (table(POINTS, " ", ","), None),
    "quoted commas.csv": (quoted("x;y;z\n" + table(POINTS, ";", ",")), XYZ),
    "tabs.tsv": ("x\ty\tz\n" + table(POINTS, "\t"), XYZ),
    "excel.csv": ("sep=;\r\nx;y;z\r\n" + table(POINTS, ";"), XYZ),
    "bars.txt": (table(POINTS, "|"), None),
    "blank before comma.csv": (table(POINTS, " , "), None),
    "blanks.dat": ("\n" + table(POINTS, "    ") + "\n\n", None),
    "delimiter at the end.csv": ("x,y,z\n" + table(POINTS, end=","), XYZ),
    "delimiter at all ends.csv": ("x,y,z,\n" + table(POINTS, end=","), XYZ),
    "windows.csv": (("x,y,z\n" + table(POINTS)).replace("\n", "\r\n"), XYZ),
    "latin.csv": ("größe,y,z\n".encode("latin-1") + table(POINTS).encode(), ["größe", "y", "z"]),
    "utf16.csv": (("x,y,z\n" + table(POINTS)).encode("utf-16"), XYZ),
    "packed.csv.gz": (gzip.compress(("x,y,z\n" + table(POINTS)).encode()), XYZ),
    "counting from 1.csv": ("1,2,3\n" + table(POINTS), ["1", "2", "3"]),
    "steps of 10.csv": ("10,20,30\n" + table(POINTS), ["10", "20", "30"]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_points_and_names(name, tmp_path):
    content, names = LAYOUTS[name]
    result = read_table(written(tmp_path, name, content))
    assert_array_equal(result.points, POINTS)
    assert result.names == names


YEARS = range(1990, 2000)
HEADERS = {
    "years above fractions": (YEARS, WIDE),
    "years above counts": (YEARS, COUNTS),
    "every fifth year": (range(1950, 2000, 5), COUNTS),
    "1 to 10 above counts": (range(1, 11), COUNTS),
    "0 to 9 above counts": (range(10), COUNTS),
    "wavelengths": (np.arange(400, 405, 0.5), WIDE),
    "two years": ((2019, 2020), COUNTS[:, :2]),
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_of_numbers_is_no_point(name, tmp_path):
    header, points = HEADERS[name]
    path = written(tmp_path, "p.csv", table([header]) + table(points))
    assert_array_equal(read_points(path), points)
    assert read_table(path).names == [str(cell) for cell in header]
    assert "its first line is a header" in read_table(path).notes[0]
    assert len(read_points(path, header=False)) == len(points) + 1


NO_HEADERS = {
    "a counted matrix": np.arange(30).reshape(10, 3),
    "the same from 1": np.arange(1, 31).reshape(10, 3),
    "a line of whole numbers": np.concatenate([[[3.0, 1.0, 2.0]], POINTS]).astype(object),
    "years in a column": np.c_[np.arange(1990, 2030), COUNTS[:, :2]],
    "rows of even steps": np.arange(40)[:, None] + 0.5 * np.arange(10),
    "one column": POINTS[:, :1],
}


@pytest.mark.parametrize("name", NO_HEADERS)
@pytest.mark.filterwarnings("ignore::sgdnoise.data.IndexColumn")
def test_a_point_of_numbers_is_no_header(name, tmp_path):
    path = written(tmp_path, "p.csv", table(NO_HEADERS[name]))
    assert_array_equal(read_points(path), NO_HEADERS[name].astype(float))


@pytest.mark.parametrize("first", [(1, 2), (2019, 2020)])
def test_a_first_line_that_could_be_a_header_is_told(first, tmp_path):
    below = COUNTS[:, :2] + (2000 if first[0] > 1 else 0)
    path = written(tmp_path, "p.csv", table([first]) + table(below))
    result = read_table(path)
    assert len(result.points) == len(below) + 1
    assert f"its first line, {first[0]}, {first[1]}, is a point" in result.notes[0]
    assert len(read_points(path, header=True)) == len(below)


@pytest.mark.parametrize("name", ["p.csv", "p.txt"])
@pytest.mark.parametrize("header", ["", "value\n"])
@pytest.mark.parametrize("digits", [2, 4])
def test_one_column_may_have_decimal_commas(name, header, digits, tmp_path):
    values = np.round(RNG.normal(size=(60, 1)), digits)
    text = "".join(f"{value:.{digits}f}\n".replace(".", ",") for value in values[:, 0])
    result = read_table(written(tmp_path, name, header + text))
    assert_array_equal(result.points, values)
    assert "commas are decimal marks" in result.notes


def test_two_columns_of_whole_numbers_are_no_decimal_commas(tmp_path):
    points = RNG.integers(0, 500, size=(60, 2))
    result = read_table(written(tmp_path, "p.csv", table(points)))
    assert_array_equal(result.points, points)
    assert "commas separate its two columns, and are no decimal marks" in result.notes


REFUSED = {
    "a comment without its mark": ("made by hand\n" + table(POINTS), "names 1 columns (made by h"),
    "a header after it": ("made by hand\nx,y,z\n" + table(POINTS), "begin the line with #"),
    "fewer names": ("x,y\n" + table(POINTS), "line 1 of p.csv names 2 columns (x, y)"),
    "more names": ("a,b,c,d\n" + table(POINTS), "the lines below have 3"),
    "a longer line": ("x,y,z\n" + table(POINTS) + "1,2,3,4\n", "line 42 has 4 cells"),
    "a shorter line": (table(POINTS) + "1,2\n" + table(POINTS), "line 41 has 2 cells"),
    "words": ("x,kind\n1,setosa\n2,Iris setosa\n", "kind ('setosa' in line 2); --drop"),
    "thousands": ("x;y\n1.234,5;2,5\n3,5;4,5\n", "x ('1.234,5' in line 2)"),
    "units": ("x,y,z\nm,m,s\n" + table(POINTS), "line 2 of p.csv is not of numbers"),
    "an index": (",x\n0,1.5\n1,2.5\n", "probably an index; omit it"),
    "comments alone": ("# x y\n", "holds no points"),
    "a gap in one column": (
        "x,y\n" + "".join(f"{k},{'NA' if k % 2 else k * k}\n" for k in range(6)),
        "3 of 6 rows of p.csv are not finite, the first is row 1; all are in y, see --drop",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_table_of_numbers_is_refused_with_its_place(name, tmp_path):
    content, sentence = REFUSED[name]
    with pytest.raises(ValueError, match=r"^[^\n]{20,300}$") as caught:
        read_points(written(tmp_path, "p.csv", content))
    assert sentence in str(caught.value)


def test_columns_are_taken_and_dropped_by_name_by_place_and_by_range(tmp_path):
    text = written(tmp_path, "p.csv", "x,kind,z\n3,a,2\n1,b,1\n4,c,2\n2,d,4\n")
    assert_array_equal(read_points(text, drop="kind")[:, 0], [3, 1, 4, 2])
    assert_array_equal(read_points(text, columns="z"), [[2], [1], [2], [4]])
    np.save(tmp_path / "p.npy", WIDE)
    chosen = read_points(tmp_path / "p.npy", columns="0:4,9", drop=[2])
    assert_array_equal(chosen, WIDE[:, [0, 1, 3, 9]])
    for wrong, sentence in {
        "w": "no column 'w'",
        "10": "0 to 9",
        "3:11": "not within columns 0:10",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            read_points(tmp_path / "p.npy", drop=wrong)
    with pytest.raises(ValueError, match=r"no column of p\.npy is left"):
        read_points(tmp_path / "p.npy", drop=":10")


def test_an_index_without_a_name_is_dropped_on_request(tmp_path):
    rows = "".join(f"{i},{line}\n" for i, line in enumerate(table(POINTS).splitlines()))
    assert_array_equal(read_points(written(tmp_path, "p.csv", ",x,y,z\n" + rows), drop=0), POINTS)


N = len(WIDE)
INDICES = {
    "row numbers": np.arange(N),
    "times": 0.01 * np.arange(N) + 7,
    "falling": -np.arange(N),
    "subjects in blocks": np.repeat(np.arange(4), 10),
    "row numbers out of order": RNG.permutation(N) + 5,
}


@pytest.mark.parametrize("name", INDICES)
def test_a_column_that_is_an_index_or_a_time_is_warned_of(name, tmp_path):
    text = table(np.c_[WIDE[:, :1], INDICES[name], WIDE[:, 1:]].astype(object))
    path = written(tmp_path, "p.csv", "a,time," + ",".join("bcdefghij") + "\n" + text)
    with pytest.warns(IndexColumn, match="--drop 'time'"):
        read_points(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_array_equal(read_points(path, drop="time"), WIDE)


@pytest.mark.parametrize("name", ["id", "Subject", "trial", "cell_id", "label"])
def test_a_column_with_the_name_of_an_index_is_warned_of(name, tmp_path):
    path = written(tmp_path, "p.csv", f"x,{name},z\n" + table(POINTS))
    with pytest.warns(IndexColumn, match=f"^{name} of p.csv counts as a coordinate"):
        read_points(path)


NO_INDICES = {
    "normal": RNG.normal(size=(20, 500)),
    "sparse": np.eye(100)[:, ::-1],
    "labels": np.c_[WIDE, RNG.integers(0, 3, N)],
    "a path": np.c_[np.arange(N), np.arange(N) ** 2],
    "sorted": np.sort(WIDE[:, :1], axis=0),
}


@pytest.mark.parametrize("name", NO_INDICES)
def test_columns_of_points_are_not_called_an_index(name, tmp_path):
    np.save(tmp_path / "p.npy", NO_INDICES[name])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_points(tmp_path / "p.npy")


def test_rows_and_columns_are_exchanged_on_request(tmp_path):
    np.save(tmp_path / "p.npy", POINTS)
    assert_array_equal(read_points(tmp_path / "p.npy", transpose=True), POINTS.T)
