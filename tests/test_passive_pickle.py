"""Pickles of arrays are read, pickles of code are not."""

import os
import pickle
from collections import OrderedDict

import numpy as np
import pytest
from scipy import sparse

from twohands.errors import UserError
from twohands.passive_pickle import as_array, read_passive_pickle


class Runs:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_plain_contents_come_back(tmp_path, protocol):
    path = tmp_path / "a.pkl"
    array = np.arange(6.0).reshape(2, 3)
    content = OrderedDict(
        array=array,
        columns=np.asfortranarray(array),
        empty=array[:0],
        scalar=np.float64(2.5),
        none=None,
        text="can",
        numbers=[1, 2.0],
        flag=True,
    )
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_passive_pickle(path, "test file", "make it again")
    for name in ("array", "columns", "empty"):
        np.testing.assert_array_equal(read.pop(name), content[name])
    assert read == {"scalar": 2.5, "none": None, "text": "can", "numbers": [1, 2.0], "flag": True}


def test_code_is_refused_by_name_and_not_run(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"x": Runs(tmp_path / "it_ran")}))
    with pytest.raises(UserError, match=r"a\.pkl names \w+\.system, which no test file does .* nothing was run.*make it again"):
        read_passive_pickle(path, "test file", "make it again")
    assert not (tmp_path / "it_ran").exists()


def test_damage_and_absence_are_named(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(np.zeros(100))[:50])
    for file in (path, tmp_path / "missing.pkl"):
        with pytest.raises(UserError, match=rf"{file.name} is not a readable test file .*; make it again"):
            read_passive_pickle(file, "test file", "make it again")


def test_what_is_no_array_of_numbers_is_named():
    for value in ("text", [None], np.array([np.nan])):
        with pytest.raises(UserError, match=r"field of a\.pkl does not hold finite numbers .*; make it again"):
            as_array(value, "field of a.pkl", "make it again")


def read_back(tmp_path, content):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content, protocol=2))
    return read_passive_pickle(path, "test file", "make it again")


@pytest.mark.parametrize("kind", [sparse.csc_matrix, sparse.csr_matrix])
def test_sparse_matrices_are_written_out(tmp_path, kind):
    matrix = kind(sparse.random(5, 7, 0.4, random_state=0))
    np.testing.assert_array_equal(as_array(read_back(tmp_path, matrix), "it", "x"), matrix.toarray())
    twice = kind((np.array([1.0, 2.0, 4.0]), np.array([1, 1, 0]), np.array([0, 2, 3])), shape=(2, 2))  # one place is given twice
    np.testing.assert_array_equal(as_array(read_back(tmp_path, twice), "it", "x"), twice.toarray())
    empty = kind((3, 4))
    np.testing.assert_array_equal(as_array(read_back(tmp_path, empty), "it", "x"), empty.toarray())


@pytest.mark.parametrize(
    ("field", "values"),
    [("indices", [0, 9, 1]), ("indices", [0, -1, 1]), ("indices", [0, 1]), ("indptr", [0, 2, 1]), ("indptr", [0, 3]), ("data", [1.0])],
)
def test_sparse_matrices_whose_arrays_do_not_fit_are_named(tmp_path, field, values):
    matrix = sparse.csc_matrix((np.array([1.0, 2.0, 4.0]), np.array([0, 1, 1]), np.array([0, 2, 3])), shape=(2, 2))
    setattr(matrix, field, np.array(values))
    with pytest.raises(UserError, match=r"it is a csc_matrix that cannot be read .*; make it again"):
        as_array(read_back(tmp_path, matrix), "it", "make it again")
