"""Pickles: arrays and images read as written; whatever else a file asks for is refused before any of it runs."""

import os
import pickle
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from core.errors import SourceError, SourceMissing
from feature_store.sources.pickles import PickledImage, load_pickle

from .bold_moments_disk import Hostile, dump
from .faults.bold_moments import in_dtype

CORES = ("numpy.core", "numpy._core")
VOXELS = np.arange(24.0).reshape(2, 3, 4)
AFFINE = np.diag([3.0, 3, 3, 1])


class Built(Hostile):
    """Pickles as a call whose result is given a state."""

    def __init__(self, call: Callable[..., Any], *arguments: Any, state: Any) -> None:
        super().__init__(call, *arguments)
        self.state = state

    def __reduce__(self) -> Any:
        return self.call, self.arguments, self.state


def image(**state: Any) -> Any:
    """Return an image in whose state something was put in the place of what belongs there."""
    one = nib.Nifti1Image(VOXELS, AFFINE)
    vars(one).update(state)
    return one


def header(**state: Any) -> Any:
    one = nib.Nifti1Header()
    vars(one).update(state)
    return one


def array_of(kind: Any) -> Built:
    """Return what pickles as an array whose type is what was given."""
    return Built(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b", state=(1, (1,), kind, False, b"12345678"))


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("call", [os.system, eval, exec, getattr, np.load, nib.load], ids=lambda call: call.__name__)
def test_calls_are_refused(tmp_path: Path, call: Callable[..., Any], protocol: int) -> None:
    path, bait = tmp_path / "hostile.pkl", tmp_path / "bait"
    dump(path, {"train_data_allvoxel": [np.zeros(3), Hostile(call, f"touch {bait}")]}, protocol)
    expected = "refused: the pickle asks for '.*', expected numpy arrays and nibabel images only; nothing of it was"
    with pytest.raises(SourceError, match=expected) as caught:
        load_pickle(path)
    assert "\n" not in str(caught.value)
    assert not bait.exists()


def test_the_payload_would_run(tmp_path: Path) -> None:
    """What the tests look for is what a naive reader would bring about."""
    pickle.loads(pickle.dumps(Hostile(os.system, f"touch {tmp_path / 'bait'}")))
    assert (tmp_path / "bait").exists()


HIDING_PLACES: dict[str, Callable[[Any], Any]] = {
    "type": lambda payload: array_of(payload),
    "type's state": lambda payload: array_of(Built(np.dtype, "f8", state=(3, "<", None, payload, None, -1, -1, 0))),
    "type's name": lambda payload: array_of(Hostile(np.dtype, payload)),
    "array of objects": lambda payload: np.array([payload], dtype=object),
    "buffer": lambda payload: Hostile(np._core.numeric._frombuffer, payload, np.dtype("f8"), (1,), "C"),
    "image's header": lambda payload: image(_header=payload),
    "header's fields": lambda payload: image(_header=header(_structarr=payload)),
    "header's extensions": lambda payload: image(_header=header(extensions=[payload])),
    "image's files": lambda payload: image(file_map={"image": payload}),
    "image's extra": lambda payload: image(extra={"note": payload}),
    "image's voxels": lambda payload: image(_dataobj=payload),
    "image's cache": lambda payload: image(_fdata_cache=payload),
    "image's affine": lambda payload: image(_affine=payload),
    "key": lambda payload: {(1, payload): 1},
}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("place", HIDING_PLACES)
def test_calls_hidden_in_arrays_and_images_are_refused(tmp_path: Path, place: str, protocol: int) -> None:
    bait = tmp_path / "bait"
    for payload in (Hostile(os.system, f"touch {bait}"), Hostile(subprocess.Popen, ["touch", str(bait)])):
        dump(tmp_path / "a.pkl", HIDING_PLACES[place](payload), protocol)
        with pytest.raises(
            SourceError, match=r"a.pkl: (refused: the pickle asks for|cut short or no pickle)"
        ) as caught:
            load_pickle(tmp_path / "a.pkl")
        assert "\n" not in str(caught.value)
    assert not bait.exists()


RAW: dict[str, bytes] = {
    "old instance": b"(S'touch BAIT'\nios\nsystem\n.",
    "old object": b"(cos\nsystem\nS'touch BAIT'\no.",
    "persistent id": b"Ptouch BAIT\n.",
    "binary persistent id": b"\x80\x02X\x0a\x00\x00\x00touch BAITQ.",
    "memo of 30 GB": b"\x80\x02Nr\xff\xff\xff\x7f0cos\nsystem\n.",
    "memo never set": b"\x80\x02h\x63.",
    "extension code": b"\x80\x02\x82\x01.",
    "buffer out of band": b"\x80\x05\x97.",
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x1andarray.__class__.__base__\x93.",
    "name of lines": b"\x80\x04\x8c\x04a\nb\n\x8c\x06sys\nt\x1b\x93.",
    "call from the memo": b"cos\nsystem\np0\n0(S'touch BAIT'\ntp1\n0g0\ng1\nR.",
    "state of a function": b"c_codecs\nencode\n}S'__call__'\nS'x'\nsb.",
    "state of a class": b"cnumpy\ndtype\n}S'dtype'\nI1\nsb.",
    "slots of a class": b"cnibabel.nifti1\nNifti1Image\n(N}S'voxels'\nI1\nstb.",
    "state of a marker": b"cnumpy\nndarray\n}S'x'\nI1\nsb.",
    "call of an image": b"cnibabel.nifti1\nNifti1Image\n(S'BAIT'\ntR.",
    "call of a header": b"cnibabel.nifti1\nNifti1Header\n(S'BAIT'\ntR.",
    "call of a list": b"cnibabel.nifti1\nNifti1Extensions\n((I1\nI2\nltR.",
    "a class alone": b"cnibabel.nifti1\nNifti1Image\n.",
    "a type alone": b"cnumpy\ndtype\n(S'f8'\ntR.",
    "itself": b"(lp0\ng0\nacos\nsystem\n.",
    "key and no value": b"(S'a'\nd.",
    "item of an array": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntRI0\nI1\ns.",
    "rebuilt string": b"ccopy_reg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\nobject\nNtR.",
}


LONG: dict[str, bytes] = {
    "long byte array": b"\x80\x05\x96" + (1 << 45).to_bytes(8, "little") + b"x.",
    "long byte array in a frame": b"\x80\x05\x95" + (20).to_bytes(8, "little") + b"\x96" + b"\xff" * 4 + bytes(15),
    "long bytes": b"\x80\x04\x8e" + (1 << 45).to_bytes(8, "little") + b"x.",
    "long text": b"\x80\x04\x8d" + (1 << 45).to_bytes(8, "little") + b"x.",
    "long frame": b"\x80\x04\x95" + (1 << 45).to_bytes(8, "little") + b"x.",
    "long number": b"\x80\x02\x8b\xff\xff\xff\x7fx.",
    "bytes of 4 GB": b"\x80\x03B\xff\xff\xff\xffx.",
}
"""What announces more bytes than there are."""


@pytest.mark.parametrize("name", LONG)
def test_no_memory_is_taken_for_bytes_that_are_not_there(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.pkl").write_bytes(LONG[name])
    with pytest.raises(
        SourceError, match=r"no pickle of arrays \(([0-9,]+ bytes are announced and [0-9] left|pickle exh)"
    ):
        load_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize("name", RAW)
def test_tricks_of_the_machine_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(RAW[name])
    with pytest.raises(SourceError, match=r"a.pkl: (refused: the pickle asks for|cut short or no pickle)") as caught:
        load_pickle(tmp_path / "a.pkl")
    assert str(caught.value).isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["a.pkl"]


def test_one_file_does_not_change_how_the_next_is_read(tmp_path: Path) -> None:
    for raw in RAW.values():
        (tmp_path / "a.pkl").write_bytes(raw)
        with suppress(SourceError):
            load_pickle(tmp_path / "a.pkl")
    dump(tmp_path / "b.pkl", (np.arange(3.0), nib.Nifti1Image(VOXELS, AFFINE)))
    array, read = load_pickle(tmp_path / "b.pkl")
    np.testing.assert_array_equal(array, [0, 1, 2])
    np.testing.assert_array_equal(read.voxels(tmp_path), VOXELS)


@pytest.mark.parametrize("kind", [nib.Nifti1Image, os.PathLike, dict])
def test_arrays_of_another_class_are_refused(tmp_path: Path, kind: Any) -> None:
    dump(tmp_path / "a.pkl", Hostile(np._core.multiarray._reconstruct, kind, (0,), b"b"))
    with pytest.raises(SourceError, match="array of another class|refused: the pickle asks for"):
        load_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.asarray([None, 1], dtype=object), "arrays of type 'O8' are not read"),
        (Hostile(np.ndarray, (1,), "f8", b"12345678"), "not callable"),
        (Hostile(np.dtype, "V8"), "a part of an array or an image that stands alone"),
        (np.zeros(2, "V8"), "arrays of type 'V8' are not read"),
        ([np.zeros(2, [("a", "f8"), ("b", "i4")])], "arrays of type 'V12' are not read"),
        (np.zeros(2, [("a", "f8"), ("b", "O")]), "arrays of type 'O8' are not read"),
        (
            Built(
                np._core.multiarray._reconstruct, np.ndarray, (0,), b"b", state=(1, (9,), np.dtype("f8"), False, b"1")
            ),
            "cut short or no pickle of arrays",
        ),
        ({1, 2, Hostile(nib.fileholders.FileHolder)}, "cut short"),
    ],
)
def test_arrays_that_could_reach_memory_are_refused(tmp_path: Path, value: Any, message: str) -> None:
    dump(tmp_path / "a.pkl", value)
    with pytest.raises(SourceError, match=message):
        load_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["float64", "int64", "uint8"])
@pytest.mark.parametrize("cached", [False, True])
def test_images_round_trip(tmp_path: Path, protocol: int, dtype: str, cached: bool) -> None:
    written = nib.Nifti1Image(VOXELS.astype(dtype), AFFINE, dtype=dtype)
    written.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"made by a test"))
    if cached:
        written.get_fdata()
    dump(tmp_path / "a.pkl", (np.arange(3), written), protocol)
    _, read = load_pickle(tmp_path / "a.pkl")
    assert isinstance(read, PickledImage)
    assert (read.shape, read.data.dtype) == ((2, 3, 4), np.dtype(dtype))
    np.testing.assert_array_equal(read.voxels(tmp_path), VOXELS)
    np.testing.assert_array_equal(read.affine, AFFINE)


@pytest.mark.parametrize("cached", [False, True])
def test_an_image_left_in_a_file_is_never_opened(tmp_path: Path, cached: bool) -> None:
    nib.save(nib.Nifti1Image(VOXELS, AFFINE), tmp_path / "a.nii")
    proxy = nib.load(tmp_path / "a.nii")
    if cached:
        proxy.get_fdata()
    dump(tmp_path / "a.pkl", proxy)
    (tmp_path / "a.nii").unlink()
    os.mkfifo(tmp_path / "a.nii")  # whoever opened it would wait for ever
    read = load_pickle(tmp_path / "a.pkl")
    np.testing.assert_array_equal(read.affine, AFFINE)
    if cached:
        np.testing.assert_array_equal(read.voxels(tmp_path), VOXELS)
    else:
        assert (read.data, read.shape) == (None, None)
        with pytest.raises(SourceError, match="a.pkl: its image names a file and holds no voxels, expected the voxels"):
            read.voxels(tmp_path / "a.pkl")


def test_a_proxy_of_a_system_file_reads_nothing(tmp_path: Path) -> None:
    proxy = nib.arrayproxy.ArrayProxy("/etc/passwd", ((8,), np.dtype("u1"), 0, 1, 0))
    dump(tmp_path / "a.pkl", image(_dataobj=proxy))
    assert load_pickle(tmp_path / "a.pkl").data is None
    dump(tmp_path / "a.pkl", [proxy])
    with pytest.raises(SourceError, match="a part of an array or an image that stands alone"):
        load_pickle(tmp_path / "a.pkl")


def doubled(levels: int = 60) -> bytes:
    """Return opcodes of a tuple that holds another twice, and so on: few bytes, and no end of work for who follows."""
    return b")" + b"2\x86" * levels


@pytest.mark.parametrize(
    "raw",
    [
        b"}" + doubled() + b"Ns.",
        b"}(" + doubled() + b"Nu.",
        b"(" + doubled() + b"Nd.",
        b"\x8f(" + doubled() + b"\x90.",
        b"(" + doubled() + b"\x91.",
        b"}(NK\x01" + doubled() + b"\x85Nu.",
        b"cnumpy\ndtype\n(" + doubled() + b"tR.",
        b"cnumpy.core.numeric\n_frombuffer\n(C\x00cnumpy\ndtype\n(S'f8'\ntR)" + doubled() + b"tR.",
        b"c_codecs\nencode\n(S'x'\n" + doubled() + b"tR.",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR" + doubled() + b"Ns.",
    ],
    ids=["item", "items", "dict", "set", "frozenset", "inside a key", "type", "order", "encoding", "array's index"],
)
def test_what_would_take_for_ever_is_refused_at_once(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04" + raw)
    with pytest.raises(SourceError, match="a.pkl: cut short or no pickle of arrays .*(tuple|items of a _Array)"):
        load_pickle(tmp_path / "a.pkl")


def test_nested_tuples_are_values_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04" + doubled(3) + b".")
    assert load_pickle(tmp_path / "a.pkl") == 2 * (2 * (((), ()),),)


@pytest.mark.parametrize("protocol", range(6))
def test_keys_and_members_are_plain(tmp_path: Path, protocol: int) -> None:
    written = {("a", 1): {1: None}, np.float64(2.5): b"c", np.str_("d"): {}, 3: True, None: (("e",),)}
    sets = [{1, "b", (2, None)}, frozenset({b"c", ()})] if protocol >= 4 else []  # before, sets are written as a call
    dump(tmp_path / "a.pkl", [written, *sets], protocol)
    assert load_pickle(tmp_path / "a.pkl") == [written, *sets]


@pytest.mark.parametrize("size", [0, 10, 1 << 17])
def test_byte_arrays_of_any_size(tmp_path: Path, size: int) -> None:
    dump(tmp_path / "a.pkl", [bytearray(size), "after"], 5)
    assert load_pickle(tmp_path / "a.pkl") == [bytearray(size), "after"]


@pytest.mark.parametrize("kind", ["S0", "U0", "V0", "S00", "S"])
def test_types_of_no_bytes_are_refused(tmp_path: Path, kind: str) -> None:
    dump(tmp_path / "a.pkl", array_of(Hostile(np.dtype, kind)))
    with pytest.raises(SourceError, match=f"arrays of type '{kind}' are not read"):
        load_pickle(tmp_path / "a.pkl")


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_every_truncation_is_one_line(tmp_path: Path, protocol: int) -> None:
    whole = pickle.dumps([np.arange(9.0), nib.Nifti1Image(VOXELS[:1], AFFINE)], protocol)
    path = tmp_path / "a.pkl"
    for length in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(SourceError, match="a.pkl: (cut short or no pickle of arrays|refused)") as caught:
            load_pickle(path)  # a name that was cut is one that is not known
        assert "\n" not in str(caught.value)


def test_a_call_hidden_in_a_type(tmp_path: Path) -> None:
    (tmp_path / "a.pkl").write_bytes(in_dtype(Hostile(os.system, f"touch {tmp_path / 'bait'}")))
    with pytest.raises(SourceError, match=r"refused: the pickle asks for '(posix|nt).system'"):
        load_pickle(tmp_path / "a.pkl")
    assert not (tmp_path / "bait").exists()


@given(
    hnp.arrays(
        st.sampled_from(["<f8", ">f8", "<f4", "i2", "?", "c16", "<U3", "S4"]), hnp.array_shapes(min_dims=0, min_side=0)
    ),
    st.integers(0, 5),
    st.booleans(),
)
def test_arrays_round_trip(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, protocol: int, fortran: bool
) -> None:
    path = tmp_path_factory.mktemp("pickles") / "a.pkl"
    array = np.asfortranarray(array) if fortran and array.ndim else array
    dump(path, {"array": array, "more": (1, None, "text", b"\xff", True, [2.5])}, protocol)
    read = load_pickle(path)
    np.testing.assert_array_equal(np.asarray(read["array"]), array)
    assert read["array"].dtype == pickle.loads(pickle.dumps(array, protocol)).dtype
    assert read["more"] == (1, None, "text", b"\xff", True, [2.5])


@pytest.mark.parametrize("protocol", [2, 5])
def test_numpy_1_and_2_paths(tmp_path: Path, protocol: int) -> None:
    written = pickle.dumps([np.arange(3.0), np.float64(2.5)], protocol)
    assert b"numpy._core" in written
    if protocol == 2:  # later protocols frame names by their length
        written = written.replace(b"numpy._core", b"numpy.core")
    (tmp_path / "a.pkl").write_bytes(written)
    array, number = load_pickle(tmp_path / "a.pkl")
    assert (array.tolist(), number) == ([0.0, 1.0, 2.0], 2.5)


@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_a_source_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "a.pkl"
    path.write_bytes(data)
    with suppress(SourceError):  # and nothing else
        load_pickle(path)


@settings(deadline=None)
@given(st.integers(0, 3000), st.binary(min_size=1, max_size=3))
def test_a_changed_image_gives_a_value_or_a_source_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, data: bytes
) -> None:
    whole = bytearray(pickle.dumps(nib.Nifti1Image(VOXELS, AFFINE), 4))
    whole[at : at + len(data)] = data
    path = tmp_path_factory.mktemp("bytes") / "a.pkl"
    path.write_bytes(bytes(whole))
    with suppress(SourceError):  # and nothing else
        load_pickle(path)


def test_absent_pickle(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="no such file; expected a pickle"):
        load_pickle(tmp_path / "a.pkl")
    with pytest.raises(SourceError, match="not a file"):
        load_pickle(tmp_path)
