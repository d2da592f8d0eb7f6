"""Laws of the codec: whatever can be converted becomes upright RGB, whatever cannot says why."""

import contextlib
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from sunspark.data import codec, decoder
from sunspark.data.codec import encode_jpeg, resize_short_side, to_stored_image
from sunspark.data.decoder import decode
from sunspark.data.image_format import DecodeError, sniff
from tests.data.odd_images import HEIGHT, WIDTH, png_of_16_bits, quadrants, saved, turned_away


def corners(pixels: np.ndarray) -> np.ndarray:
    """The four corners, a few pixels inside: (4, 3)."""
    return pixels[[5, 5, -6, -6], [5, -6, 5, -6]].astype(int)


def difference(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("JPEG", {"quality": 95}),
        ("JPEG", {"quality": 95, "progressive": True}),
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("PNG", {}),
        ("BMP", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"big_tiff": True}),
        ("WEBP", {"quality": 95}),
        ("AVIF", {"quality": 95}),
    ],
)
def test_every_format_gives_its_pixels(name: str, options: dict[str, Any]) -> None:
    body = saved(quadrants(), name, **options)
    picture = decode(body)
    assert sniff(body) == picture.source_format == name
    assert (picture.source_width, picture.source_height) == (WIDTH, HEIGHT)
    assert picture.pixels.shape == (HEIGHT, WIDTH, 3)
    assert picture.pixels.dtype == np.uint8
    assert difference(corners(picture.pixels), corners(np.asarray(quadrants()))) <= 12


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *(("JPEG", mode) for mode in ("L", "CMYK")),
        *(("PNG", mode) for mode in ("1", "L", "P", "LA", "RGBA")),
        *(("TIFF", mode) for mode in ("1", "L", "P", "CMYK", "LA", "RGBA")),
        *(("GIF", mode) for mode in ("1", "L", "P", "RGBA")),
    ],
)
def test_every_mode_is_converted(name: str, mode: str) -> None:
    image = quadrants().convert("L").convert("1") if mode == "1" else quadrants().convert(mode)
    pixels = decode(saved(image, name)).pixels
    wanted = np.asarray(quadrants().convert("L").convert("RGB") if mode in ("L", "LA") else quadrants())
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    if mode != "1":
        assert difference(corners(pixels), corners(wanted)) <= 45


def test_a_cmyk_jpeg_with_adobe_marker_keeps_its_colours() -> None:
    body = saved(quadrants().convert("CMYK"), "JPEG", quality=95)
    assert simplejpeg.decode_jpeg_header(body)[2] in ("CMYK", "YCCK")
    assert difference(corners(decode(body).pixels), corners(np.asarray(quadrants()))) <= 12


def test_the_first_frame_of_a_gif_is_taken() -> None:
    frames = [quadrants(), Image.new("RGB", (WIDTH, HEIGHT)), Image.new("RGB", (WIDTH, HEIGHT), "white")]
    body = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert difference(corners(decode(body).pixels), corners(np.asarray(quadrants()))) <= 12


def test_transparency_is_laid_on_white() -> None:
    image = quadrants().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    image.putpixel((10, 10), (220, 30, 30, 255))
    image.putpixel((11, 10), (0, 0, 0, 128))
    for name in ("PNG", "WEBP"):
        pixels = decode(saved(image, name, lossless=True)).pixels
        assert (pixels[0, 0] == 255).all()
        assert tuple(pixels[10, 10]) == (220, 30, 30)
        assert difference(pixels[10, 11], np.full(3, 127)) <= 1
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    assert (decode(saved(palette, "PNG", transparency=1)).pixels == 255).all()
    assert (decode(saved(palette, "GIF", transparency=1)).pixels == 255).all()


def test_sixteen_bits_keep_their_high_byte() -> None:
    values = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 27
    for name in ("PNG", "TIFF"):
        pixels = decode(saved(Image.fromarray(values), name)).pixels
        assert (pixels == (values >> 8).astype(np.uint8)[:, :, None]).all()


def test_sixteen_bits_a_channel_in_colour() -> None:
    """A PNG that Pillow cannot write: 48 bits a pixel."""
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, 3), np.uint16)
    assert (decode(png_of_16_bits(values)).pixels == (values >> 8).astype(np.uint8)).all()


def test_gray_values_that_fit_no_byte_are_refused_not_clipped() -> None:
    body = saved(Image.fromarray(np.full((4, 4), -3.5, np.float32)), "TIFF")
    with pytest.raises(DecodeError, match="outside 0 to 65535"):
        decode(body)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_images_are_turned_upright_by_exif(name: str, orientation: int) -> None:
    stored = turned_away(orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(saved(stored, name, exif=exif, quality=95))
    assert picture.pixels.shape == (HEIGHT, WIDTH, 3)
    assert difference(corners(picture.pixels), corners(np.asarray(quadrants()))) <= 12


@pytest.mark.parametrize("name", ["gray", "gray of 16 bits", "palette", "transparent"])
def test_the_strips_of_a_conversion_make_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    image = {
        "gray": Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH), np.uint8)),
        "gray of 16 bits": Image.fromarray(rng.integers(0, 65_536, (HEIGHT, WIDTH), np.uint16)),
        "palette": quadrants().quantize(4),
        "transparent": Image.fromarray(rng.integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)),
    }[name]
    body = saved(image, "PNG")
    whole = decode(body).pixels
    monkeypatch.setattr(decoder, "_STRIP_PIXELS", 7 * WIDTH)
    assert np.array_equal(decode(body).pixels, whole)


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


PEAK = """
import sys
from pathlib import Path
from sunspark.data.codec import to_stored_image
from sunspark.data.decoder import decode

def peak_bytes():
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])

warm, body = (Path(name).read_bytes() for name in sys.argv[1:3])
to_stored_image(warm, short_side=32)
Path("/proc/self/clear_refs").write_text("5")
before = peak_bytes()
decode(body) if sys.argv[3] == "decode" else to_stored_image(body, short_side=int(sys.argv[3]))
print(peak_bytes() - before)
"""


@pytest.mark.parametrize(
    ("name", "options", "what", "most"),
    [
        ("JPEG", {}, "decode", 3),
        ("JPEG", {"exif": turned(6)}, "decode", 6),
        ("PNG", {}, "decode", 10),
        ("PNG", {}, "256", 10),
        ("TIFF", {}, "2400", 10),
    ],
)
def test_an_image_takes_no_more_than_its_bytes_a_pixel(
    name: str, options: dict[str, Any], what: str, most: int, tmp_path: Path
) -> None:
    side = 2500
    smooth = np.add.outer(np.arange(side), np.arange(side))[:, :, None] // np.array([5, 9, 13])
    image = Image.fromarray(smooth.astype(np.uint8)).convert("RGBA" if name == "PNG" else "RGB")
    (tmp_path / "warm").write_bytes(saved(quadrants(), "PNG"))
    (tmp_path / "body").write_bytes(saved(image, name, **options))
    words = [str(tmp_path / "warm"), str(tmp_path / "body"), what]
    done = subprocess.run([sys.executable, "-c", PEAK, *words], capture_output=True, text=True, timeout=100, check=True)
    assert int(done.stdout) / side**2 < most + 0.7


def test_damaged_exif_does_not_cost_an_image() -> None:
    body = saved(quadrants(), "JPEG", quality=95)
    rubbish = b"Exif\x00\x00" + b"\xff" * 40
    body = body[:2] + b"\xff\xe1" + (len(rubbish) + 2).to_bytes(2, "big") + rubbish + body[2:]
    assert difference(corners(decode(body).pixels), corners(np.asarray(quadrants()))) <= 12


def test_a_jpeg_without_its_end_marker_is_taken() -> None:
    body = saved(quadrants(), "JPEG", quality=95)
    assert body.endswith(b"\xff\xd9")
    assert difference(corners(decode(body[:-2]).pixels), corners(np.asarray(quadrants()))) <= 12


def test_a_jpeg_that_is_cut_behind_its_header_ends_too_early() -> None:
    body = saved(quadrants(), "JPEG", quality=95)
    for length in range(body.index(b"\xff\xda") + 14, len(body) - 2, 7):  # without its end marker alone it is taken
        with pytest.raises(DecodeError, match="decode: JPEG: the file ends too early"):
            decode(body[:length])


@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF"])
def test_truncated_images_are_refused(name: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    body = saved(noise, name)
    for share in (0.3, 0.7):
        with pytest.raises(DecodeError) as caught:
            decode(body[: int(len(body) * share)])
        assert caught.value.stage == "decode"
        assert caught.value.reason.startswith(f"{name}: ")
        assert "\n" not in caught.value.reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the file is empty"),
        (bytes(100), "zero bytes only"),
        (b"  <!DOCTYPE html><html>404</html>", "an HTML page"),
        (b"<?xml version='1.0'?><svg/>", "a text with tags"),
        (b"hello, I am a text", r"it begins with 'hello, I'$"),
        ("naïvetés".encode(), r"it begins with 'naïvet'$"),
        ("naïve".encode(), r"it begins with 'naïve'$"),
        (b"path;label\n", r"it begins with 'path;lab'$"),
        (b"\x00\x01\xfe 1234", r"it begins with the bytes 00 01 fe 20 31 32 33 34$"),
        (b"\x1b[31mred", r"it begins with the bytes 1b 5b 33 31 6d 72 65 64$"),
        (b"\0\0\0\x18ftypisom", r"a video, or another medium, not an image: its brand is 'isom'$"),
        (b"\0\0\0\x18ftyp\0\1\2\3", r"its brand is the bytes 00 01 02 03$"),
    ],
)
def test_what_is_no_image_says_what_it_is(body: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason) as caught:
        decode(body)
    assert caught.value.stage == "sniff"


def test_no_bytes_make_the_decoder_raise_anything_else() -> None:
    """Flipped bits in every format: an image or a DecodeError, and never a warning."""
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"):
            whole = saved(quadrants(), name)
            for _ in range(60):
                body = bytearray(whole)
                for position in rng.integers(0, len(body), 6):
                    body[position] = rng.integers(256)
                with contextlib.suppress(DecodeError):
                    assert decode(bytes(body), short_side=16).pixels.shape[2] == 3


EMPTY_CHUNK = bytes(4) + b"npRv" + zlib.crc32(b"npRv").to_bytes(4, "big")


@pytest.mark.parametrize(
    ("head", "junk"),
    [
        (b"\xff\xd8\xff", b"\0" * 2**27),
        (b"\xff\xd8\xff", b"\xff" * 2**27),
        (b"\xff\xd8\xff", b"\xff\xe0\0\2" * 2**24),
        (b"\x89PNG\r\n\x1a\n", EMPTY_CHUNK * 2**22),
    ],
    ids=["zeros", "padding", "empty segments", "empty chunks"],
)
@pytest.mark.timeout(120)
def test_a_damaged_file_of_many_megabytes_is_given_up_soon(head: bytes, junk: bytes) -> None:
    """Pillow reads the header of either byte by byte, for minutes."""
    started = time.thread_time()  # of work: others may keep the machine busy
    with pytest.raises(DecodeError, match=r"it is damaged: no image in its first \d+ bytes"):
        decode(head + junk)
    assert time.thread_time() - started < 30


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_a_jpeg_with_any_number_of_exif_segments_is_taken_soon(mode: str) -> None:
    """RGB for simplejpeg, CMYK for Pillow; to join the segments, each time all anew, takes minutes."""
    whole = saved(turned_away(6).convert(mode), "JPEG", exif=turned(6), quality=95)
    more = b"Exif\x00\x00" + bytes(100)
    segment = b"\xff\xe1" + (2 + len(more)).to_bytes(2, "big") + more
    place = whole.index(b"\xff\xdb")
    assert whole.index(b"Exif\x00\x00") < place
    started = time.monotonic()
    many = decode(whole[:place] + segment * 200_000 + whole[place:])
    assert time.monotonic() - started < 30
    assert (many.pixels == decode(whole).pixels).all()
    assert many.pixels.shape[:2] == (HEIGHT, WIDTH)


def test_an_image_in_few_pieces_is_taken_however_long_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a BMP in whatever pieces."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8))
    monkeypatch.setattr(decoder, "_MOST_READS", 100)
    for name in ("PNG", "TIFF", "WEBP", "AVIF", "GIF", "BMP"):
        assert decode(saved(noise, name)).pixels.shape == (256, 256, 3)
    packed = b"".join(b"\1%c" % (column % 2) for column in range(WIDTH)) + b"\0\0"
    pixels = decode(packed_bmp(packed * HEIGHT)).pixels
    assert (pixels[:, ::2] == 0).all()
    assert (pixels[:, 1::2] == (255, 0, 0)).all()


def packed_bmp(rows: bytes) -> bytes:
    """A BMP of run lengths (RLE8), WIDTH x HEIGHT, black and red."""
    palette = bytes(4) + b"\0\0\xff\0"
    start = 14 + 40 + len(palette)
    about = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 8, 1, len(rows), 0, 0, 2, 0)
    return struct.pack("<2sIHHI", b"BM", start + len(rows), 0, 0, start) + about + palette + rows


def test_a_decompression_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = saved(Image.new("1", (20_000, 20_000)), "PNG")
    assert len(bomb) < 100_000
    with pytest.raises(DecodeError) as caught:
        decode(bomb)
    assert caught.value.stage == "size"
    monkeypatch.setattr(decoder, "MAX_PIXELS", WIDTH * HEIGHT - 1)
    for name in ("JPEG", "PNG"):
        with pytest.raises(DecodeError, match=f"size: {WIDTH}x{HEIGHT} is more than {WIDTH * HEIGHT - 1} pixels"):
            decode(saved(quadrants(), name))


@pytest.mark.parametrize(
    ("height", "width", "short_side", "wanted"),
    [
        (768, 1024, 256, (256, 341)),
        (1024, 768, 256, (341, 256)),
        (300, 300, 256, (256, 256)),
        (256, 900, 256, (256, 900)),
        (100, 80, 256, (100, 80)),
        (1, 1, 256, (1, 1)),
        (257, 256, 255, (256, 255)),
        (2, 5000, 256, (2, 5000)),
    ],
)
def test_the_short_side_shrinks_to_size_and_never_grows(
    height: int, width: int, short_side: int, wanted: tuple[int, int]
) -> None:
    pixels = np.zeros((height, width, 3), np.uint8)
    assert resize_short_side(pixels, short_side).shape == (*wanted, 3)


def test_shrinking_is_antialiased() -> None:
    """A fine checkerboard becomes gray, not a coarser checkerboard."""
    board = np.indices((512, 512)).sum(axis=0) % 2 * 255
    pixels = np.repeat(board[:, :, None], 3, axis=2).astype(np.uint8)
    assert difference(resize_short_side(pixels, 100), np.full(3, 127)) <= 3


@pytest.mark.parametrize(("size", "short_side"), [((1600, 1200), 128), ((1203, 1601), 100), ((4097, 900), 50)])
def test_decoding_at_a_fraction_changes_next_to_nothing(size: tuple[int, int], short_side: int) -> None:
    grid = np.random.default_rng(0).integers(0, 256, (9, 12, 3), np.uint8)
    body = encode_jpeg(np.asarray(Image.fromarray(grid).resize(size, Image.Resampling.BICUBIC)))
    whole, part = decode(body), decode(body, short_side=short_side)
    assert (part.source_width, part.source_height) == size
    assert min(part.pixels.shape[:2]) >= 1.5 * short_side
    assert part.pixels.size < whole.pixels.size
    a, b = resize_short_side(whole.pixels, short_side), resize_short_side(part.pixels, short_side)
    assert abs(a.shape[0] - b.shape[0]) <= 1
    assert abs(a.shape[1] - b.shape[1]) <= 1
    b = np.asarray(Image.fromarray(b).resize((a.shape[1], a.shape[0])))
    assert np.abs(a.astype(int) - b).mean() < 3


def test_the_stored_image_is_a_plain_jpeg_and_the_same_every_time() -> None:
    body = saved(quadrants().resize((600, 400)).convert("RGBA"), "PNG")
    stored = [to_stored_image(body, short_side=100, jpeg_quality=92) for _ in range(3)]
    assert stored[0] == stored[1] == stored[2]
    assert simplejpeg.decode_jpeg_header(stored[0].jpeg) == (100, 150, "YCbCr", "420")
    assert (stored[0].width, stored[0].height) == (150, 100)
    assert (stored[0].source_format, stored[0].source_width, stored[0].source_height) == ("PNG", 600, 400)
    again = simplejpeg.decode_jpeg(stored[0].jpeg)
    assert difference(corners(again), corners(np.asarray(quadrants()))) <= 12


def test_an_image_with_a_side_that_no_jpeg_can_have_is_refused() -> None:
    for size in ((codec.MAX_STORED_SIDE + 1, 1), (1, codec.MAX_STORED_SIDE + 1)):
        with pytest.raises(DecodeError, match=f"{size[0]}x{size[1]} has a side of more than 65500 pixels") as caught:
            to_stored_image(saved(Image.new("L", size), "PNG"), short_side=8)
        assert caught.value.stage == "size"
    longest = to_stored_image(saved(Image.new("L", (codec.MAX_STORED_SIDE, 1)), "PNG"), short_side=8)
    assert decode(longest.jpeg).pixels.shape == (1, codec.MAX_STORED_SIDE, 3)
    assert to_stored_image(saved(Image.new("L", (80_000, 16)), "PNG"), short_side=8).width == 40_000


def test_other_threads_run_while_an_image_is_normalised() -> None:
    """A thread that only counts goes on counting; if the GIL were held a few times per call."""
    grid = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    body = encode_jpeg(np.asarray(Image.fromarray(grid).resize((6000, 4500))))
    done = threading.Event()
    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while not done.wait(0.001):
            ticks += 1

    ticker = threading.Thread(target=tick)
    started = time.monotonic()
    ticker.start()
    try:
        for _ in range(2):
            to_stored_image(body, short_side=2400)
    finally:
        seconds = time.monotonic() - started
        done.set()
        ticker.join(timeout=30)
    assert ticks > 40 * seconds
