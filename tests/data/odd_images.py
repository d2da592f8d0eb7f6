"""Image files that sets really hold and that decoders stumble over, drawn here: each as its bytes.

All show `quadrants`, 60 x 40, unless they cannot: red, green over blue, yellow, which tells every turn from every
other.
"""

import base64
import io
import struct
import zlib
from typing import Any, Final

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 60, 40

# By libjpeg-turbo 3.2, of `quadrants` at quality 90. Pillow writes neither.
_ARITHMETIC: Final = (
    "|JeWF01!$>Nk#wx0RR9200961|JwjV00RO70|EjA0|NsD0|NvF2n7WM1O*BQ2L=cX3JeSj3JVJj4iXRz4iOFu3lJ6%5fc;@6%`B*7Z?^47!ni}"
    "6#v@*LjeN>1O)^I2?YfS6b%av6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6cqo-"
    "01*fPC;&VI0U`hb5di}c0sqVZ3IGrg1pyEd1^?Or3<CiG0ucid06zf#0MYG+!#`^w+lz&&ZXsdSLTZ2{(GdtZn0Z|bLHGM(k8{H{j$1R1u>Szn"
    "c62Ey{un5W6-"
    "(tBiEpiBQ`k#J6&wCZ6Xdo@dv!*2wq+LaGbH~2L;M*h?`V)I%k}(V{Jwg&ZOe{odT9v(q0XNE8chcG+BRjj2yXWl&=!L*wu;rp@#?%)0Z_)t4i"
    "ccCCT;E^^M57nEWRR_c^g=0gdIq`2&ajRanCHZehc|Ai4vng)<-rO0Y)by2c!O`U+R*zLx>y7u6DlovyQbBpbe)z{1i-"
    "A(b@b0*B^il9i^4iM~hvnGgZ`qwMk+ZAhq~DOX3$`pPb9nS!C#`O=6Ib`^wo%cF*rqjNLfvdUKEtp`TR6f5vz~78_f~_g#rf=2-"
    "=r1?!c?!{z!69Z%QCkc~Cz)8zK#9n`Lv;uVDcu7C<}1GSyH|Je"
)
_TWELVE_BITS: Final = (
    "|JeWF01!$>Nk#wx0RR9200961|JwjV00RO70|EjA0|NsD0|NvF2n7WM1O*BQ2L=cX3JeSj3JVJj4iXRz4iOFu3lJ6%5fc;@6%`B*7Z?^47!ni}"
    "6#v@*LjeN>1O)^I2?YfS6b%av6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6ciK`6cqo#01*rTC;&VI0U`hb5di}c"
    "0sq7R82|wR00RL400000000000000B2?`7i|HJ?_5C8!H0S*lX0000000000000yP2MG!j78)C9X{V^=<^u)@3k(++Iy{Dmwzw4|Cp0zx!~h!s"
    "00II70RR910000000000015~V2MY`d|HJ??5dZ)L0|N&Q0RR9100000000C91_K8O2?`Vf3lkPtrq&f18XGq{R&{u#w71nb|Jncy0|5X65d#qb"
    "KLCjk0M$-A^+3*3NZsemj5*V?mD2{Ma+*f(K4f9eos_PT`l0(8dHG@g0ErYNP5G|sMXP?Er$^TAQC0u|j-"
    "sCo0005Y&kycGG{IpAe{vC~3kcLm7Ja=}MbQn7H}+?7pzY-"
    "A8!txfW4TiAgofR){^TP}77@RuVV#h;czM^B4j3?a8xL($uP>gxXIL*??5tYgV~60QsY!`1aSQL@9FpC=$0sZ#M~e<<h#W(^Q~s<xOI|@a@0@1"
    "uZpB%#c1qKF-lbYq)%lYwq(t3yHq`abV4mdF_VmAStD~R6DLT$49KooQE@KLOp`u1KdLu>Sz{`mXD-"
    "O<U?iT&py)2y8d)8G%>olpGWDYYOX&S7`PvutIpu9vy)ZBVgaEhTEa#`a=afzo%pDm@+6Es}LL^!z}lko?$=+zed2!q-"
    "5YKwjf+JdQ5o;JCBeeH<<0G<^`p$~We0B23=dhr;NR6*?eHATMyAohJ4qThnHpgH4fm&e}NkNM!}L*4%X+0%NSyhc2D@Bw@rJaq!Ynj!}f?$rM"
    "Ps}B;_kO2a-gWb+sV|_Evf2&<WQqrgN48HS}&zk^xN`L~9C~ScM004jg*#"
)
_UNDO: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""For each orientation of EXIF how an upright image is stored under it."""


def quadrants() -> Image.Image:
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:20, :30] = (220, 30, 30)
    pixels[:20, 30:] = (30, 200, 30)
    pixels[20:, :30] = (30, 30, 220)
    pixels[20:, 30:] = (220, 220, 30)
    return Image.fromarray(pixels)


def saved(image: Image.Image, name: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, name, **options)
    return sink.getvalue()


def png_of_16_bits(values: np.ndarray) -> bytes:
    """A PNG of 48 bits a pixel, which Pillow does not write, from uint16 (H, W, 3)."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return _png(values.shape[1], values.shape[0], depth=16, interlaced=False, rows=rows)


def interlaced_png() -> bytes:
    """Adam7, which Pillow does not write."""
    pixels = np.asarray(quadrants())
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    parts = [pixels[top::down, left::across] for top, left, down, across in passes]
    rows = b"".join(b"\0" + row.tobytes() for part in parts for row in part if part.size)
    return _png(WIDTH, HEIGHT, depth=8, interlaced=True, rows=rows)


def without_adobe_marker(jpeg: bytes) -> bytes:
    """A JPEG without its APP14 segment."""
    start = jpeg.index(b"\xff\xee")
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big") :]


def turned_away(orientation: int) -> Image.Image:
    """`quadrants` as a camera stores them that says so by EXIF's `orientation`."""
    return quadrants() if orientation == 1 else quadrants().transpose(_UNDO[orientation])


def turned(orientation: int) -> bytes:
    """A JPEG that EXIF's `orientation` sets upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(turned_away(orientation), "JPEG", exif=exif, quality=95)


def taken() -> dict[str, bytes]:
    """By file name: what is taken, and shows `quadrants`."""
    plain = saved(quadrants(), "JPEG", quality=95)
    cmyk = saved(quadrants().convert("CMYK"), "JPEG", quality=95)
    frames = [Image.new("RGB", (WIDTH, HEIGHT)), Image.new("RGB", (WIDTH, HEIGHT), "white")]
    return {
        "16 bits.png": png_of_16_bits(np.asarray(quadrants()).astype(np.uint16) * 257),
        "cmyk.jpg": cmyk,
        "cmyk without Adobe marker.jpg": without_adobe_marker(cmyk),
        "interlaced.png": interlaced_png(),
        "animated.gif": saved(quadrants(), "GIF", save_all=True, append_images=frames),
        "palette.png": saved(quadrants().quantize(4), "PNG"),
        "trailing.jpg": plain + b"\r\n--boundary--" * 100,
        "no end marker.jpg": plain.removesuffix(b"\xff\xd9"),
        "progressive.jpg": saved(quadrants(), "JPEG", quality=95, progressive=True),
        "arithmetic.jpg": base64.b85decode("".join(_ARITHMETIC)),
        "a PNG by another name.jpg": saved(quadrants(), "PNG"),
        "av1.avif": saved(quadrants(), "AVIF", quality=95),
        **{f"orientation {number}.jpg": turned(number) for number in range(1, 9)},
    }


def transparent_palette() -> bytes:
    """A palette whose every pixel is a colour that is transparent."""
    palette = Image.new("P", (WIDTH, HEIGHT), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    return saved(palette, "PNG", transparency=1)


def of_odd_shape() -> dict[str, bytes]:
    """By file name: what is taken, and is too small or too long to show anything."""
    return {
        "1x1.jpg": saved(Image.new("RGB", (1, 1)), "JPEG"),
        "20000x3.jpg": saved(Image.new("RGB", (20_000, 3)), "JPEG"),
        "3x20000.png": saved(Image.new("RGB", (3, 20_000)), "PNG"),
    }


def refused() -> dict[str, tuple[bytes, str]]:
    """By file name: what is refused, and a part of the reason."""
    plain = saved(quadrants(), "JPEG", quality=95)
    frame = plain.index(b"\xff\xc0")
    return {
        "12 bits.jpg": (base64.b85decode("".join(_TWELVE_BITS)), "it has 12 bits a channel, 8 are decoded here"),
        "lossless.jpg": (plain[:frame] + b"\xff\xc3" + plain[frame + 2 :], "it is lossless JPEG"),
        "bomb.png": (
            saved(Image.new("1", (20_000, 20_000)), "PNG"),
            "more than 100000000 pixels: Image size (400000000 pixels)",
        ),
        "empty.jpg": (b"", "the file is empty"),
        "zeros.jpg": (bytes(5000), "zero bytes only"),
        "of a telephone.heic": (
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100),
            "HEIC, which is not decoded here; convert it to JPEG first",
        ),
        "video.jpg": (b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(100), "a video, or another medium, not an image"),
        "page.jpg": (b"<!DOCTYPE html><html><body>429 Too Many Requests</body></html>", "an HTML page, not an image"),
        "cut.jpg": (plain[: len(plain) // 2], "JPEG: "),
    }


def _png(width: int, height: int, *, depth: int, interlaced: bool, rows: bytes) -> bytes:
    """RGB; `rows` come with their filter bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, interlaced)
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")
