import hashlib
import http.server
import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tifffile

from cellshed.data import ranges, remote_zip
from cellshed.data.download import download, listed_images
from cellshed.data.fetch import Retry
from cellshed.data.livecell import IMAGE_FOLDERS, SPLITS, annotation_file, size_split_file
from cellshed.data.readers import read_livecell
from cellshed.data.remote import DownloadError
from cellshed.data.sources import Request
from cellshed.data.synthetic import synthetic_field

COUNTS = {"train": 20, "val": 4, "test": 6}
TYPES = {"A172": "angular", "BV2": "round"}


# ---- a LIVECell-shaped bucket, made of synthetic fields ----


def image_name(cell_type, split, number):
    return f"{cell_type}_Phase_{'ABC'[SPLITS.index(split)]}{number + 1}_1_00d00h00m_1.tif"


def annotations(names):
    """COCO annotations of one square cell per image."""
    images = [
        {"id": k, "file_name": name, "height": 48, "width": 64} for k, name in enumerate(names)
    ]
    cells = [
        {"id": k, "image_id": k, "category_id": 1, "area": 16, "bbox": [1, 1, 4, 4],
         "iscrowd": 0, "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]]}
        for k in range(len(names))
    ]  # fmt: skip
    return json.dumps({"images": images, "annotations": cells, "categories": []}).encode()


@pytest.fixture(scope="module")
def images():
    """Bytes of all images by their path in the archive."""
    files = {}
    for split, count in COUNTS.items():
        for cell_type, morphology in TYPES.items():
            for number in range(count):
                field_, _ = synthetic_field((1, number), morphology, (48, 64))
                buffer = io.BytesIO()
                tifffile.imwrite(buffer, field_, metadata=None)
                name = image_name(cell_type, split, number)
                files[f"{IMAGE_FOLDERS[split]}/{cell_type}/{name}"] = buffer.getvalue()
    return files


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/images/._nothing.tif", b"x" * 900)
        for path, data in sorted(files.items()):
            archive.writestr(path, data)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def bucket(images):
    """Bytes of all files of the bucket by their path."""
    files = {"images.zip": zipped(images)}
    for split, count in COUNTS.items():
        of_type = {t: [image_name(t, split, k) for k in range(count)] for t in TYPES}
        files[annotation_file(split)] = annotations([*of_type["A172"], *of_type["BV2"]])
        for cell_type, names in of_type.items():
            path = f"annotations/LIVECell_single_cells/{cell_type.lower()}/{split}.json"
            files[path] = annotations(names)
    train = listed(files[annotation_file("train")])
    files[size_split_file(5)] = annotations([train[3], train[25]])
    return files


def listed(data):
    return [image["file_name"] for image in json.loads(data)["images"]]


# ---- a server that can misbehave ----


@dataclass
class Fault:
    """What goes wrong with one GET of a file."""

    status: int = 0
    headers: dict = field(default_factory=dict)
    drop_after: int | None = None
    """Bytes after which the connection is cut."""
    more: int = 0
    """Added to the length that is announced."""
    hang: bool = False
    """Wait before the connection is cut, until the server stops."""


@dataclass
class Served:
    path: str
    span: str | None
    condition: str | None
    status: int
    sent: int = 0


class Site(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(files)
        self.faults = {}
        self.always = {}
        self.ranges = True
        self.tags = True
        self.log = []
        self.stopped = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def sent(self, path):
        return sum(served.sent for served in self.log if served.path == path)

    def gets(self, path):
        return [served for served in self.log if served.path == path]

    def handle_error(self, request, client_address):
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        data = self.server.files.get(self.path[1:])
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()

    def do_GET(self):
        site, path = self.server, self.path[1:]
        waiting = site.faults.get(path)
        fault = waiting.pop(0) if waiting else site.always.get(path, Fault())
        data = site.files.get(path)
        served = Served(path, self.headers["Range"], self.headers["If-Range"], 0)
        site.log.append(served)
        served.status = fault.status or (404 if data is None else 0)
        if served.status:
            self.send_response(served.status)
            for name, value in {**fault.headers, "Content-Length": "0"}.items():
                self.send_header(name, value)
            self.end_headers()
            return
        self.answer(site, data, fault, served)

    def answer(self, site, data, fault, served):
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", served.span or "")
        start, stop = 0, len(data)
        if span and site.ranges and served.condition in (None, tag):
            start = int(span[1])
            stop = min(stop, int(span[2] or stop) + 1)
            if start >= len(data):
                served.status = 416
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(data)}")
        else:
            self.send_response(200)
        if site.tags:
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(stop - start + fault.more))
        self.end_headers()
        body = data[start:stop][: fault.drop_after]
        served.sent = len(body)
        self.wfile.write(body)
        self.wfile.flush()
        if fault.hang:
            site.stopped.wait(30)
        if fault.drop_after is not None or fault.more:
            self.close_connection = True


@pytest.fixture
def site(bucket):
    site = Site(bucket)
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield site
    site.stopped.set()
    site.shutdown()
    site.server_close()
    thread.join()


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def retry(pauses):
    return Retry(tries=4, sleep=pauses.append)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """The archive of the tests is small, so what counts as near in it is smaller too."""
    monkeypatch.setattr(ranges, "_TAIL", 512)
    monkeypatch.setattr(remote_zip, "_GAP", 64)


def files_in(folder):
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


def assert_images(folder, images, names):
    """The folder has just the images of these names, byte by byte, and no unfinished file."""
    expected = {path: data for path, data in images.items() if Path(path).name in names}
    assert len(expected) == len(names)
    there = files_in(folder)
    assert {p: f.read_bytes() for p, f in there.items() if p.startswith("images/")} == expected
    assert [p for p in there if ".part" in p] == []


ALL = [image_name(t, s, k) for s in SPLITS for t in TYPES for k in range(COUNTS[s])]


# ---- what is fetched ----


def test_all_of_it_arrives_whole_and_prepare_can_read_it(site, images, bucket, tmp_path, retry):
    told = []
    download(
        tmp_path,
        base_url=site.url,
        retry=retry,
        progress=lambda done, all_: told.append((done, all_)),
    )
    assert_images(tmp_path, images, ALL)
    for split in SPLITS:
        path = annotation_file(split)
        assert (tmp_path / path).read_bytes() == bucket[path]
    assert len(read_livecell(tmp_path, Request()).items) == len(ALL)
    assert told[-1][0] == told[-1][1]
    assert told[-1][1] == len(bucket["images.zip"]) + sum(
        len(bucket[annotation_file(s)]) for s in SPLITS
    )
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    # Most of the archive is wanted: one request for all of it, after a look at its directory.
    assert [g.span for g in site.gets("images.zip")][-1] is None


def test_a_subset_of_one_cell_type_takes_these_images_alone(site, images, bucket, tmp_path, retry):
    download(tmp_path, cell_types=["a172"], subset=5, base_url=site.url, retry=retry)
    wanted = [listed(bucket[size_split_file(5)])[0]]
    assert_images(tmp_path, images, wanted)
    assert {served.path for served in site.log} == {size_split_file(5), "images.zip"}
    with zipfile.ZipFile(io.BytesIO(bucket["images.zip"])) as archive:
        directory = len(bucket["images.zip"]) - archive.start_dir
        member = next(i for i in archive.infolist() if Path(i.filename).name == wanted[0])
    needed = member.compress_size + 30 + len(member.filename)
    assert needed <= site.sent("images.zip") - directory <= needed + 1 + 512
    assert site.sent("images.zip") < len(bucket["images.zip"]) / 4
    found = read_livecell(tmp_path, Request(cell_types=("A172",), subset=5))
    assert [item.path.name for item in found.items] == wanted


def test_a_cell_type_takes_its_own_annotations_and_one_range_per_run_of_neighbours(
    site, images, tmp_path, retry
):
    download(tmp_path, cell_types=["BV2"], base_url=site.url, retry=retry)
    wanted = [name for name in ALL if name.startswith("BV2")]
    assert_images(tmp_path, images, wanted)
    assert not (tmp_path / annotation_file("train")).exists()
    assert len(read_livecell(tmp_path, Request(cell_types=("BV2",))).items) == len(wanted)
    # One byte for size and version, end, directory, then a range in each of the two folders.
    assert len(site.gets("images.zip")) == 5


def test_a_subset_alone_means_training_images(site, images, bucket, tmp_path, retry):
    download(tmp_path, subset=5, base_url=site.url, retry=retry)
    assert_images(tmp_path, images, listed(bucket[size_split_file(5)]))
    assert not (tmp_path / annotation_file("test")).exists()


def test_splits_are_taken_as_asked(site, images, tmp_path, retry):
    download(tmp_path, splits=["test", "val"], base_url=site.url, retry=retry)
    assert_images(tmp_path, images, [n for n in ALL if "_Phase_A" not in n])
    assert not (tmp_path / annotation_file("train")).exists()


def test_annotations_alone(site, bucket, tmp_path, retry):
    download(tmp_path, base_url=site.url, annotations_only=True, retry=retry)
    assert set(files_in(tmp_path)) == {annotation_file(split) for split in SPLITS}
    assert site.gets("images.zip") == []


def test_a_second_call_asks_for_nothing(site, tmp_path, retry):
    for _ in range(2):
        download(tmp_path, cell_types=["A172"], splits=["val"], base_url=site.url, retry=retry)
        asked, site.log = site.log, []
    assert asked == []


def test_annotations_that_are_there_serve_for_parts_of_them(site, images, tmp_path, retry):
    download(tmp_path, splits=["train"], annotations_only=True, base_url=site.url, retry=retry)
    site.log.clear()
    download(
        tmp_path, splits=["train"], cell_types=["BV2"], subset=5, base_url=site.url, retry=retry
    )
    assert {served.path for served in site.log} == {"images.zip"}
    found = read_livecell(tmp_path, Request(cell_types=("BV2",), subset=5))
    assert_images(tmp_path, images, [item.path.name for item in found.items])
    assert len(found.items) == 1


def test_what_is_missing_or_of_another_size_is_fetched_again(site, images, tmp_path, retry):
    download(tmp_path, splits=["val"], base_url=site.url, retry=retry)
    paths = list(files_in(tmp_path / "images").values())
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:-5])
    (tmp_path / annotation_file("val")).write_text('{"images": [')
    download(tmp_path, splits=["val"], base_url=site.url, retry=retry)
    assert_images(tmp_path, images, [n for n in ALL if "_Phase_B" in n])
    assert len(listed_images(tmp_path / annotation_file("val"))) == 8


def test_archive_with_the_long_form_of_directory(site, images, tmp_path, retry, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
        site.files["images.zip"] = zipped(images)
    assert b"PK\x06\x06" in site.files["images.zip"]
    download(tmp_path, subset=5, base_url=site.url, retry=retry)
    assert_images(tmp_path, images, listed(site.files[size_split_file(5)]))


# ---- when the network fails ----


@pytest.mark.parametrize("path", [annotation_file("train"), "images.zip"])
def test_a_dropped_connection_is_resumed_where_it_broke(
    site, images, bucket, tmp_path, retry, pauses, path
):
    whole = len(bucket[path])
    site.faults[path] = [Fault(drop_after=whole // 3)] * 2
    site.faults[path] = (
        site.faults[path]
        if path != "images.zip"
        else [Fault(), Fault(), Fault(), *site.faults[path]]
    )
    download(tmp_path, base_url=site.url, retry=retry)
    assert_images(tmp_path, images, ALL)
    body = [g for g in site.gets(path) if g.span is None or g.span.endswith("-")]
    assert [g.span for g in body] == [None, f"bytes={whole // 3}-", f"bytes={2 * (whole // 3)}-"]
    assert body[1].condition == f'"{hashlib.md5(bucket[path]).hexdigest()}"'
    assert sum(g.sent for g in body) == whole
    assert len(pauses) == 2
    assert all(0.75 <= pause <= 1.25 for pause in pauses)


def test_a_dropped_range_is_resumed_within(site, images, tmp_path, retry, pauses):
    site.faults["images.zip"] = [Fault(), Fault(), Fault(), Fault(drop_after=1000)]
    download(tmp_path, splits=["val"], base_url=site.url, retry=retry)
    assert_images(tmp_path, images, [n for n in ALL if "_Phase_B" in n])
    first, second = site.gets("images.zip")[3:5]
    begin = int(re.match(r"bytes=(\d+)", first.span)[1])
    assert second.span.startswith(f"bytes={begin + 1000}-")
    assert len(pauses) == 1


def test_a_later_run_goes_on_where_the_first_gave_up(site, bucket, tmp_path, retry, pauses):
    path = annotation_file("train")
    site.faults[path] = [Fault(drop_after=1000), *[Fault(status=503)] * 4]
    with pytest.raises(DownloadError, match=r"503.*gave up after 4 tries.*again"):
        download(tmp_path, splits=["train"], annotations_only=True, base_url=site.url, retry=retry)
    assert not (tmp_path / path).exists()
    part = tmp_path / f"{path}.part"
    assert part.read_bytes() == bucket[path][:1000]
    site.log.clear()
    download(tmp_path, splits=["train"], annotations_only=True, base_url=site.url, retry=retry)
    assert (tmp_path / path).read_bytes() == bucket[path]
    assert site.sent(path) == len(bucket[path]) - 1000
    assert set(files_in(tmp_path)) == {path}


def test_a_file_that_changed_in_between_is_begun_anew(site, bucket, tmp_path, retry):
    path = annotation_file("val")
    new = annotations(["A172_Phase_B1_1_00d00h00m_1.tif"] * 40)
    site.faults[path] = [Fault(drop_after=500), *[Fault(status=503)] * 4]
    with pytest.raises(DownloadError):
        download(tmp_path, splits=["val"], annotations_only=True, base_url=site.url, retry=retry)
    site.files[path] = new
    download(tmp_path, splits=["val"], annotations_only=True, base_url=site.url, retry=retry)
    assert (tmp_path / path).read_bytes() == new


def test_without_version_a_change_of_size_is_noticed(site, bucket, tmp_path, retry):
    path = annotation_file("val")
    site.tags = False
    new = annotations(["A172_Phase_B1_1_00d00h00m_1.tif"] * 40)
    site.faults[path] = [Fault(drop_after=500), *[Fault(status=503)] * 4]
    with pytest.raises(DownloadError):
        download(tmp_path, splits=["val"], annotations_only=True, base_url=site.url, retry=retry)
    site.files[path] = new
    download(tmp_path, splits=["val"], annotations_only=True, base_url=site.url, retry=retry)
    assert (tmp_path / path).read_bytes() == new


def test_an_archive_that_changes_while_it_is_read_is_read_anew(site, images, tmp_path, retry):
    before = site.files["images.zip"]
    changed = {path: data[::-1] for path, data in images.items()}

    def change(pause):
        site.files["images.zip"] = zipped(changed)

    site.faults["images.zip"] = [Fault(), Fault(), Fault(), Fault(drop_after=1000)]
    impatient = Retry(tries=4, sleep=change)
    download(tmp_path, splits=["val"], base_url=site.url, retry=impatient)
    assert site.files["images.zip"] != before
    assert_images(tmp_path, changed, [n for n in ALL if "_Phase_B" in n])


def test_a_server_without_ranges_sends_the_whole_archive(site, images, tmp_path, retry, bucket):
    site.ranges = False
    download(tmp_path, subset=5, base_url=site.url, retry=retry)
    assert_images(tmp_path, images, listed(bucket[size_split_file(5)]))


def test_without_ranges_a_dropped_connection_starts_over(site, images, tmp_path, retry, bucket):
    site.ranges = False
    site.faults["images.zip"] = [Fault(), Fault(drop_after=5000), Fault(drop_after=3000)]
    download(tmp_path, subset=5, base_url=site.url, retry=retry)
    assert_images(tmp_path, images, listed(bucket[size_split_file(5)]))


def test_what_is_not_there_is_said_at_once(site, tmp_path, retry, pauses):
    with pytest.raises(ValueError, match=r"nowhere/annotations.*404.*--base-url"):
        download(tmp_path, base_url=f"{site.url}/nowhere", retry=retry)
    del site.files["images.zip"]
    with pytest.raises(ValueError, match=r"images\.zip.*404"):
        download(tmp_path, splits=["val"], base_url=site.url, retry=retry)
    assert pauses == []
    assert set(files_in(tmp_path)) == {annotation_file("val")}


def test_a_missing_file_is_found_out_before_the_first_is_fetched(site, tmp_path, retry):
    del site.files[annotation_file("test")]
    with pytest.raises(ValueError, match="404"):
        download(tmp_path, base_url=site.url, retry=retry)
    assert site.log == []


def test_busy_servers_are_waited_for_as_long_as_they_say(site, images, tmp_path, retry, pauses):
    site.faults[annotation_file("val")] = [
        Fault(status=503), Fault(status=429, headers={"Retry-After": "7"}), Fault(status=500)
    ]  # fmt: skip
    download(tmp_path, splits=["val"], base_url=site.url, retry=retry)
    assert_images(tmp_path, images, [n for n in ALL if "_Phase_B" in n])
    first, asked, third = pauses
    assert 0.75 <= first <= 1.25
    assert asked == 7
    assert 3 <= third <= 5


def test_waits_double_up_to_a_limit_and_then_it_gives_up(site, tmp_path):
    pauses = []
    site.always[annotation_file("val")] = Fault(status=503)
    retry = Retry(tries=8, longest=20, sleep=pauses.append)
    with pytest.raises(DownloadError, match="gave up after 8 tries"):
        download(tmp_path, splits=["val"], base_url=site.url, retry=retry)
    for pause, expected in zip(pauses, [1, 2, 4, 8, 16, 20, 20], strict=True):
        assert min(expected * 0.75, 20) <= pause <= min(expected * 1.25, 20)
    assert [p for p in files_in(tmp_path) if not p.endswith(".part")] == []


def test_no_server_at_all(tmp_path, retry, pauses):
    with Site({}) as closed:
        url = closed.url
    with pytest.raises(DownloadError, match=r"refused.*gave up after 4 tries"):
        download(tmp_path, base_url=url, retry=retry)
    assert len(pauses) == 3
    assert files_in(tmp_path) == {}


# ---- when what arrives is not sound ----


def test_more_announced_than_sent_is_no_success(site, tmp_path, retry):
    path = annotation_file("val")
    site.always[path] = Fault(more=100)
    with pytest.raises(DownloadError, match="gave up"):
        download(tmp_path, splits=["val"], base_url=site.url, retry=retry)
    assert not (tmp_path / path).exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{"images": [{"id": 1, "fi', "not whole as JSON"),
        (b"<html>Service moved</html>", "not whole as JSON"),
        (b'{"images": []}', "not COCO annotations"),
        (b'{"images": [], "annotations": []}', "lists no images"),
        (b"[1, 2]", "not COCO annotations"),
        (b"\xff\xfe\x00", "not whole as JSON"),
    ],
)
def test_unsound_annotations_never_get_their_name(site, tmp_path, retry, data, message):
    path = annotation_file("val")
    site.files[path] = data
    with pytest.raises(DownloadError, match=message):
        download(tmp_path, splits=["val"], base_url=site.url, retry=retry)
    assert files_in(tmp_path) == {}
    assert len(site.gets(path)) == 3


def test_annotations_numbered_by_keys_are_annotations_too(tmp_path):
    tree = json.loads(annotations(["a.tif", "folder/b.tif", "a.tif"]))
    tree["annotations"] = {str(cell["id"]): cell for cell in tree["annotations"]}
    path = tmp_path / "train.json"
    path.write_text(json.dumps(tree))
    assert listed_images(path) == ["a.tif", "b.tif"]


@pytest.mark.parametrize("splits", [["val"], None])
def test_a_truncated_archive_leaves_no_image(site, tmp_path, retry, splits):
    site.files["images.zip"] = site.files["images.zip"][:-3000]
    with pytest.raises(DownloadError, match=r"images\.zip: not a whole zip archive"):
        download(tmp_path, splits=splits, base_url=site.url, retry=retry)
    assert [p for p in files_in(tmp_path) if p.startswith("images")] == []


@pytest.mark.parametrize("ranged", [True, False])
def test_a_damaged_image_is_never_written(site, images, tmp_path, retry, ranged):
    site.ranges = ranged
    data = bytearray(site.files["images.zip"])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        bad = next(i for i in archive.infolist() if "A172_Phase_B3" in i.filename)
    data[bad.header_offset + 30 + len(bad.filename) + bad.compress_size // 2] ^= 0xFF
    site.files["images.zip"] = bytes(data)
    with pytest.raises(DownloadError, match="not a whole zip archive"):
        download(tmp_path, splits=["val"], base_url=site.url, retry=retry)
    there = {p: f.read_bytes() for p, f in files_in(tmp_path / "images").items()}
    assert not [path for path in there if "A172_Phase_B3" in path]
    assert all(images[f"images/{path}"] == data for path, data in there.items())


def test_images_that_the_archive_lacks_are_named(site, images, tmp_path, retry):
    lacking = {p: d for p, d in images.items() if "BV2_Phase_B2" not in p}
    site.files["images.zip"] = zipped(lacking)
    with pytest.raises(ValueError, match=r"1 of 8 images .* BV2_Phase_B2"):
        download(tmp_path, splits=["val"], base_url=site.url, retry=retry)
    assert_images(
        tmp_path, images, [n for n in ALL if "_Phase_B" in n and "BV2_Phase_B2_" not in n]
    )


@pytest.mark.parametrize("name", ["../../evil.tif", "..\\..\\evil.tif", "/evil.tif", ".._evil.tif"])
def test_no_name_leads_out_of_the_folder(site, tmp_path, retry, name):
    site.files[annotation_file("val")] = annotations([name])
    site.files["images.zip"] = zipped({name: b"evil" * 1000})
    download(tmp_path / "in" / "ner", splits=["val"], base_url=site.url, retry=retry)
    inner = Path("in/ner") / IMAGE_FOLDERS["val"]
    there = [Path(path) for path in files_in(tmp_path) if "evil" in path]
    assert len(there) == 1
    assert there[0].parent.resolve() == inner.resolve()


def test_a_full_disk_is_no_network_failure(site, tmp_path, retry, pauses, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        download(tmp_path, splits=["val"], base_url=site.url, retry=retry)
    assert pauses == []
    assert [p for p in files_in(tmp_path) if p.startswith("images")] == []


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize("path", [annotation_file("train"), "images.zip"])
def test_killed_midway_leaves_no_file_under_its_final_name(
    site, images, bucket, tmp_path, retry, path
):
    half = len(bucket[path]) // 2
    before = [Fault()] * 3 if path == "images.zip" else []
    site.faults[path] = [*before, Fault(drop_after=half, hang=True)]
    code = f"""
        from cellshed.data import ranges
        ranges._TAIL = 512
        from cellshed.data.download import download
        download({str(tmp_path)!r}, base_url={site.url!r})
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    part = tmp_path / f"{path}.part"
    deadline = time.monotonic() + 30
    while not (part.is_file() and part.stat().st_size == half) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert part.read_bytes() == bucket[path][:half]
    finished = {p for p in files_in(tmp_path) if ".part" not in p}
    assert finished == ({annotation_file(s) for s in SPLITS} if path == "images.zip" else set())
    site.log.clear()
    download(tmp_path, base_url=site.url, retry=retry)
    assert_images(tmp_path, images, ALL)
    body = [g for g in site.gets(path) if g.span and g.span.endswith("-")]
    assert sum(g.sent for g in body) == len(bucket[path]) - half


# ---- other places than a web server ----


def write_mirror(folder, bucket):
    for path, data in bucket.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


@pytest.mark.parametrize("as_url", [True, False])
def test_a_folder_may_be_the_mirror(images, bucket, tmp_path, as_url):
    mirror, to = tmp_path / "a mirror", tmp_path / "to"
    write_mirror(mirror, bucket)
    download(to, splits=["val"], base_url=mirror.as_uri() if as_url else str(mirror))
    assert_images(to, images, [n for n in ALL if "_Phase_B" in n])
    with pytest.raises(ValueError, match=r"no such file.*--base-url"):
        download(to, base_url=str(tmp_path / "elsewhere"))


def test_any_file_system_of_fsspec_may_be_the_mirror(images, bucket, tmp_path, retry):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for path, data in bucket.items():
        memory.pipe_file(f"/mirror/{path}", data)
    download(tmp_path, splits=["val"], base_url="memory://mirror", retry=retry)
    assert_images(tmp_path, images, [n for n in ALL if "_Phase_B" in n])
    download(tmp_path, base_url="memory://mirror/", retry=retry)
    assert_images(tmp_path, images, ALL)
    with pytest.raises(ValueError, match=r"memory://none/.*--base-url"):
        download(tmp_path / "other", base_url="memory://none", retry=retry)


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ValueError, match=r"s3://bucket.*fsspec.*cellshed\[s3\]"):
        download(tmp_path, base_url="s3://bucket")


# ---- wrong use ----


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"splits": ["trian"]}, "'train'"),
        ({"cell_types": ["A17"]}, "'A172'"),
        ({"subset": 3}, "subset 3 %"),
        ({"base_url": "gopher://somewhere"}, "gopher"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_asked(site, tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        download(tmp_path, **{"base_url": site.url, **wrong})
    assert site.log == []
    assert files_in(tmp_path) == {}
