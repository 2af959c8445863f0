"""The picture and question generator nano is trained on.

Everything is drawn with Pillow on a canvas (mostly 224x224), sometimes spoilt (JPEG, blur, noise), then shrunk
to 224x224 exactly as the server does it. `Sampler.draw(kind)` gives a picture, its conversation and a task name.
"""
import glob
import hashlib
import io
import math
import random
import re

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

import phrases as P

SIDE = 224
LETTERS = "abcdefghijklmnopqrstuvwxyz"
GLYPHS = LETTERS + LETTERS.upper() + "0123456789"
PATCH = 14
GRID = SIDE // PATCH
COLOURS = {"red": (220, 30, 30), "green": (30, 160, 50), "blue": (40, 70, 220), "yellow": (245, 215, 30), "purple": (135, 40, 165),
           "orange": (248, 135, 20), "black": (15, 15, 15), "gray": (128, 128, 128), "pink": (250, 150, 190), "brown": (130, 75, 35)}
# What libraries and people call pure by that name; drawn half of the time.
PURE = {"red": [(255, 0, 0)], "green": [(0, 128, 0), (0, 255, 0), (0, 200, 0)], "blue": [(0, 0, 255)], "yellow": [(255, 255, 0), (255, 215, 0)],
        "purple": [(128, 0, 128), (160, 32, 240)], "orange": [(255, 165, 0), (255, 140, 0)], "black": [(0, 0, 0)], "gray": [(128, 128, 128)],
        "pink": [(255, 192, 203), (255, 105, 180)], "brown": [(165, 42, 42), (139, 69, 19)]}
COLOUR_WEIGHTS = [10, 10, 10, 10, 10, 10, 10, 2, 2, 2]
SHAPES = ["circle", "square", "triangle", "star", "rectangle"]
SHAPE_WEIGHTS = [10, 10, 10, 1, 1]
FOLDER = "/usr/share/fonts/"
BAD_FONT = re.compile(r"Symbol|Math|Dingb|D050000L|Z003|chorus|Thin|Hairline|ExtraLight|Biolinum_K|Libertine_I\.|Libertine_DR|Condensed.*(Light|Semi|Medium)|"
                      r"Expanded|CondLight|Junicode.*(Semi|Medium|Light)|type1|Type1")
NOTO = re.compile(r"Noto(Sans|Serif|SansDisplay|SerifDisplay|SansMono)-(Regular|Bold|Italic|BoldItalic)\.ttf$")
# Whole families that are never trained on: their scores are the honest ones for a new typeface.
HELD_FAMILIES = re.compile(r"OpenSans|Caladea|Cantarell|URWBookman|texgyrebonum")
CORE = re.compile(r"/(DejaVu(?!Math)|Liberation)")


def fonts():
    """(core, other, held-out) font files; core is what most viewers and test pictures use."""
    files = sorted(f for e in ("ttf", "otf") for f in glob.glob(f"{FOLDER}**/*.{e}", recursive=True))
    files = [f for f in files if not BAD_FONT.search(f) and ("/noto/" not in f or NOTO.search(f))]
    held = [f for f in files if HELD_FAMILIES.search(f)]
    core = [f for f in files if CORE.search(f)]
    other = [f for f in files if f not in core and f not in held]
    random.Random(7).shuffle(core)
    random.Random(7).shuffle(other)
    return core, other, held


def words():
    """(trained, held-out) lower-case English words of 2 to 6 letters from the word list of the package wamerican.

    About one word in twelve, chosen by a hash of its letters, is never drawn in training."""
    with open("/usr/share/dict/words", encoding="utf-8") as f:
        every = sorted({w.strip() for w in f if re.fullmatch(r"[a-z]{2,6}\n", w)})
    out = lambda w: 3 <= len(w) <= 5 and hashlib.sha256(w.encode()).digest()[0] < 21
    return [w for w in every if not out(w)], [w for w in every if out(w)]


def shrink(image):
    """The server's preprocessing up to the 8-bit pixels: RGB, bicubic, aspect ignored."""
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def shift(pixels, r):
    """(the same 224x224 picture with its drawing moved to another place, dx, dy) (the background is plain, so rolling is enough)."""
    ink = np.abs(pixels.astype(np.int16) - pixels[0, 0]).max(-1) > 40
    ys, xs = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    if len(ys) == 0:
        return pixels, 0, 0
    dy = r.randint(min(0, 1 - int(ys[0])), max(0, SIDE - 2 - int(ys[-1])))
    dx = r.randint(min(0, 1 - int(xs[0])), max(0, SIDE - 2 - int(xs[-1])))
    return np.roll(pixels, (dy, dx), (0, 1)), dx, dy


# What a patch is asked about the drawing under it: the glyph under its left and its right half, the glyph's number in the string,
# the kind and the colour of the figure whose centre it holds, and the kind of the figure that covers it. 0 means none.
CUES = dict(left=len(GLYPHS) + 1, right=len(GLYPHS) + 1, order=9, centre=len(SHAPES) + 1, colour=len(COLOURS) + 1, cover=len(SHAPES) + 1)


def cues(marks, dx=0, dy=0):
    """uint8 [len(CUES), GRID*GRID]: the right answers to CUES for a picture with these marks, moved by (dx, dy) pixels."""
    out = np.zeros((len(CUES), GRID, GRID), np.uint8)
    cell = lambda v: min(GRID - 1, max(0, int(v // PATCH)))
    for what, x0, y0, x1, y1, a, b in marks:
        x0, y0, x1, y1 = x0 + dx, y0 + dy, x1 + dx, y1 + dy
        if what == "glyph":
            rows = slice(cell(y0 + 0.25 * (y1 - y0)), cell(y1 - 0.25 * (y1 - y0)) + 1)
            for half in (0, 1):  # the halves whose middle lies inside [x0, x1)
                first = max(0, math.ceil((x0 - PATCH * (0.25 + 0.5 * half)) / PATCH))
                last = min(GRID, math.ceil((x1 - PATCH * (0.25 + 0.5 * half)) / PATCH))
                out[half, rows, first:last] = a
                if half == 0 or last > first:
                    out[2, rows, first:last] = min(b, 8)
        else:
            cx, cy = cell((x0 + x1) / 2), cell((y0 + y1) / 2)
            out[5, cell(y0 + PATCH / 2): cell(y1 - PATCH / 2) + 1, cell(x0 + PATCH / 2): cell(x1 - PATCH / 2) + 1] = a
            out[3, cy, cx], out[4, cy, cx] = a, b
    return out.reshape(len(CUES), -1)


class Sampler:
    """Draws samples; `marks` then says where in the shrunk picture each glyph and figure is. The curriculum sets `longest` (letters), `spread` (0..1: how small and how far from the middle) and `fonts`."""

    def __init__(self, seed, font_files=None, word_list=None):
        core, other, _ = fonts()
        self.r = random.Random(seed)
        self.all_core, self.all_other = core, other
        self.core, self.other = (core, other) if font_files is None else (font_files, font_files)
        trained = word_list or words()[0]
        self.by_length = {n: [w for w in trained if len(w) == n] for n in range(2, 7)}
        self.longest, self.spread, self.real = 5, 1.0, 0.7
        self.warm = False  # curriculum still running: lengths follow `longest`
        self.cache = {}
        self.mix = dict(word=50, number=17, digit=3, count=13, colour=6, shape=5, place=3, describe=1.5, talk=1.5)

    # ---- canvas ----
    def font(self, path, size):
        key = (path, size)
        if key not in self.cache:
            if len(self.cache) > 12000:
                self.cache.clear()
            self.cache[key] = ImageFont.truetype(path, size)
        return self.cache[key]

    def canvas_size(self):
        r = self.r
        if r.random() < 0.86:
            return 224, 224
        if r.random() < 0.5:
            s = r.choice([112, 128, 160, 192, 256, 288, 320, 336, 384])
            return s, s
        w = r.randint(112, 380)
        return w, min(640, max(96, int(w / math.exp(r.uniform(-0.45, 0.45)))))

    def background(self):
        r = self.r
        x = r.random()
        if x < 0.7:
            return (255, 255, 255)
        if x < 0.9:
            return (r.randint(225, 255),) * 3
        return tuple(r.randint(205, 255) for _ in range(3))

    def spoil(self, im):
        """JPEG, blur and noise on a share of the pictures."""
        r = self.r
        x = r.random()
        if x < 0.06:
            im = im.filter(ImageFilter.GaussianBlur(r.uniform(0.3, 1.0)))
        elif x < 0.12:
            a = np.asarray(im).astype(np.int16)
            n = np.random.default_rng(r.getrandbits(32)).normal(0, r.uniform(2, 9), a.shape[:2] + (1,))
            im = Image.fromarray(np.clip(a + n, 0, 255).astype(np.uint8))
        if r.random() < 0.3:
            buf = io.BytesIO()
            im.save(buf, "JPEG", quality=r.randint(60, 95))
            im = Image.open(buf)
            im.load()
        return im

    # ---- text ----
    def text_picture(self, s):
        """The string anywhere in the picture, any size; `spread` 0 keeps it large and near the middle."""
        r = self.r
        w, h = self.canvas_size()
        unit = min(w, h) / 224
        path = r.choice(self.core if r.random() < 0.9 else self.other)
        if r.random() < self.spread:
            size = r.choices([r.uniform(20, 76), r.uniform(16, 32), r.uniform(72, 130)], [6, 3, 1])[0]
        else:
            size = r.uniform(50 if self.spread else 80, 125)
        size = max(10, round(size * unit))
        margin = r.choice([0.01, 0.03, 0.05]) * min(w, h)
        while True:
            f = self.font(path, size)
            b = f.getbbox(s)
            tw, th = b[2] - b[0], b[3] - b[1]
            if (tw <= w - 2 * margin and th <= h - 2 * margin) or size <= 9:
                break
            size = max(9, min(size - 1, int(size * (w - 2 * margin) / max(tw, 1)), int(size * (h - 2 * margin) / max(th, 1))))
        bg = self.background()
        if r.random() < 0.72:
            c = (r.choice([0, 0, 0, r.randint(0, 80)]),) * 3
        else:
            c = tuple(r.randint(0, 130) for _ in range(3))
        if r.random() < 0.04:
            bg, c = tuple(255 - v for v in bg), tuple(255 - v for v in c)
        mx, my = max(0.0, w - tw - 2 * margin), max(0.0, h - th - 2 * margin)
        if r.random() < self.spread * 0.75:
            x, y = margin + r.random() * mx, margin + r.random() * my
        else:
            jx, jy = 0.03 + 0.03 * (1 + self.spread), 0.05 + 0.03 * (1 + self.spread)
            x = margin + mx / 2 + r.uniform(-jx, jx) * w
            y = margin + my / 2 + r.uniform(-jy, jy) * h
            x, y = min(max(x, 1), max(1, w - tw - 1)), min(max(y, 1), max(1, h - th - 1))
        im = Image.new("RGB", (w, h), bg)
        ImageDraw.Draw(im).text((int(x) - b[0], int(y) - b[1]), s, fill=c, font=f)
        edges = [(int(x) - b[0] + f.getlength(s[:i])) / w * SIDE for i in range(len(s) + 1)]
        top, bottom = int(y) / h * SIDE, (int(y) + th) / h * SIDE
        self.marks = [("glyph", edges[i], top, edges[i + 1], bottom, GLYPHS.find(ch) + 1, i + 1) for i, ch in enumerate(s)]
        return self.spoil(im)

    def string(self):
        """A word to read: real, or random letters, now and then with capitals."""
        r = self.r
        if self.warm:
            n = r.randint(max(1, self.longest - 2), self.longest)
        else:
            n = r.choices([1, 2, 3, 4, 5, 6], [1, 2, 29, 34, 32, 2])[0]
        if n > 1 and r.random() < self.real:
            s = r.choice(self.by_length[n])
        else:
            s = "".join(r.choice(LETTERS) for _ in range(n))
        if n > 2 and not (self.warm and self.longest < 5):
            x = r.random()
            if x < 0.025:
                s = s.capitalize()
            elif x < 0.05 and re.search("[^cosuvwxzpkijy]", s):
                s = s.upper()
        return s

    # ---- shapes ----
    def tint(self, name):
        r = self.r
        if r.random() < 0.55:
            base, j = r.choice(PURE[name]), r.choice([0, 0, 6])
        else:
            base, j = COLOURS[name], 16
        return tuple(min(255, max(0, v + r.randint(-j, j))) for v in base)

    def figure(self, d, kind, cx, cy, rad, fill, k):
        """One shape inside the circle of radius `rad` around (cx, cy); `k` is the supersampling factor."""
        r = self.r
        line = 0
        if self.outlined:
            line = max(2, int(rad * r.uniform(0.12, 0.3)))
        paint = dict(outline=fill, width=int(line * k)) if line else dict(fill=fill)
        edge = r.random() < 0.08 and not line
        if edge:
            paint = dict(fill=fill, outline=(0, 0, 0), width=max(1, int(k * rad * 0.06)))
        if kind == "circle":
            d.ellipse([(cx - rad) * k, (cy - rad) * k, (cx + rad) * k, (cy + rad) * k], **paint)
        elif kind == "square":
            s = rad * r.uniform(0.75, 0.98)
            d.rectangle([(cx - s) * k, (cy - s) * k, (cx + s) * k, (cy + s) * k], **paint)
        elif kind == "rectangle":
            a, b = rad * r.uniform(0.85, 0.95), rad * r.uniform(0.3, 0.5)
            if r.random() < 0.4:
                a, b = b, a
            d.rectangle([(cx - a) * k, (cy - b) * k, (cx + a) * k, (cy + b) * k], **paint)
        else:
            if kind == "star":
                pts = [(rad * (1 if i % 2 == 0 else 0.42), -math.pi / 2 + i * math.pi / 5) for i in range(10)]
                pts = [(cx + q * math.cos(a), cy + q * math.sin(a)) for q, a in pts]
            elif r.random() < 0.45:
                pts = [(cx - rad, cy + rad), (cx + rad, cy + rad), (cx, cy - rad)]
            elif r.random() < 0.75:
                pts = [(cx + rad * math.cos(a), cy + rad * math.sin(a)) for a in (-math.pi / 2, math.pi / 6, 5 * math.pi / 6)]
            else:
                t, e = r.uniform(0, 2 * math.pi), r.uniform(-0.25, 0.25)
                pts = [(cx + rad * math.cos(t + a), cy + rad * math.sin(t + a)) for a in (0, 2.094 + e, 4.189)]
            pts = [(x * k, y * k) for x, y in pts]
            if line:
                d.line(pts + pts[:2], fill=fill, width=int(line * k), joint="curve")
            else:
                d.polygon(pts, fill=fill, **({"outline": (0, 0, 0)} if edge else {}))

    def places(self, n, w, h):
        """Centres and radii of n figures that do not touch: grid, row or free."""
        r = self.r
        m = min(w, h)
        if self.easy and n <= 9:  # the start of the curriculum: cells of a 3x3 grid, large figures
            out = []
            for c in r.sample(range(9), n):
                q = r.uniform(0.26, 0.44) * m / 3
                jx, jy = w / 6 - q - 1, h / 6 - q - 1
                out.append(((c % 3 + 0.5) * w / 3 + r.uniform(-jx, jx), (c // 3 + 0.5) * h / 3 + r.uniform(-jy, jy), q))
            return out
        style = r.random()
        if style < 0.3 and n > 1 or n > 7 and style < 0.6:
            cols = r.randint(3 if n > 4 else 2, 3 if n < 10 else 4)
            rows = max(math.ceil(n / cols), r.randint(2, 3))
            cw, ch = w / cols, h / rows
            top = min(cw, ch) / 2 * 0.93
            cells = r.sample(range(cols * rows), n) if r.random() < 0.6 else range(n)
            rad = r.uniform(0.45, 1) * top
            same = r.random() < 0.5
            out = []
            for c in cells:
                q = rad if same else r.uniform(0.45, 1) * top
                jx, jy = max(0, cw / 2 - q - 1), max(0, ch / 2 - q - 1)
                if same:
                    jx = jy = 0
                out.append(((c % cols + 0.5) * cw + r.uniform(-jx, jx), (c // cols + 0.5) * ch + r.uniform(-jy, jy), q))
            return out
        if style < 0.4 and n > 1:
            step = (w if r.random() < 0.7 else -h) / n
            rad = min(abs(step) / 2 * 0.9, m * 0.3) * r.uniform(0.5, 1)
            off = r.uniform(rad, (h if step > 0 else w) - rad) if r.random() < 0.5 else (h if step > 0 else w) / 2
            return [((i + 0.5) * abs(step), off, rad) if step > 0 else (off, (i + 0.5) * abs(step), rad) for i in range(n)]
        biggest = m * (0.46 if n == 1 else 0.3 if n == 2 else 0.25 if n == 3 else 0.21 if n < 6 else 0.17)
        same = r.random() < 0.5
        low = m * 0.05
        rad = r.uniform(low, biggest)
        for shrinking in range(60):
            out = []
            for _ in range(40 * n):
                q = rad if same else r.uniform(low, biggest)
                x, y = r.uniform(q + 1, w - q - 1), r.uniform(q + 1, h - q - 1)
                if all(math.hypot(x - a, y - b) > (q + c) * 1.06 + 2.5 for a, b, c in out):
                    out.append((x, y, q))
                    if len(out) == n:
                        return out
            biggest *= 0.9
            rad *= 0.9
            biggest = max(biggest, low * 1.2)
        return out

    def shape_picture(self, kinds, colours, spots=None):
        """One figure per entry of `kinds`."""
        r = self.r
        w, h = self.canvas_size()
        smooth = r.random() < 0.35
        k = 2 if smooth and max(w, h) <= 330 else 1
        self.outlined = r.random() < 0.13 and not spots and not self.easy
        spots = spots(w, h) if spots else self.places(len(kinds), w, h)
        bg = self.background()
        if "yellow" in colours or "pink" in colours or "gray" in colours:
            bg = (255, 255, 255)
        im = Image.new("RGB", (w * k, h * k), bg)
        d = ImageDraw.Draw(im)
        self.marks = []
        for kind, colour, (x, y, q) in zip(kinds, colours, spots):
            box = ((x - q) / w * SIDE, (y - q) / h * SIDE, (x + q) / w * SIDE, (y + q) / h * SIDE)
            self.marks.append(("figure", *box, SHAPES.index(kind) + 1, list(COLOURS).index(colour) + 1 if colour in COLOURS else 0))
            self.figure(d, kind, x, y, q, colour if isinstance(colour, tuple) else self.tint(colour), k)
        if k == 2:
            im = im.reduce(2)
        return self.spoil(im)

    # ---- conversations ----
    def ask(self, templates, **holes):
        """A question with its holes filled, a share with a suffix, without punctuation or in lower case."""
        r = self.r
        holes.setdefault("o", r.choices(P.OBJ, [6, 4, 1])[0])
        q = r.choice(templates).replace("{1}", holes.get("one", "shape"))
        for name in ("o", "s", "c"):
            q = q.replace("{" + name + "}", holes.get(name, ""))
        x = r.random()
        if x < 0.12:
            return q + r.choice(P.NUMBER_SUFFIXES if holes.get("digits") and r.random() < 0.7 else P.SUFFIXES)
        if x < 0.2:
            q = q.rstrip("?.")
        if x < 0.16 or x > 0.97:
            q = q[0].lower() + q[1:]
        return q

    def colour(self):
        return self.r.choices(list(COLOURS), COLOUR_WEIGHTS)[0]

    def kind(self):
        return self.r.choices(SHAPES, SHAPE_WEIGHTS)[0]

    def few(self):
        return self.r.choices([1, 2, 3, 4, 5, 6], [40, 15, 15, 12, 10, 8])[0]

    def spelling(self):
        return self.r.choice(["color", "color", "colour"])

    def draw(self, task=None):
        """(picture or None, [(question, answer), ...], task name)."""
        r = self.r
        task = task or r.choices(list(self.mix), list(self.mix.values()))[0]
        self.easy = self.warm and r.random() > self.spread * 0.8 + 0.15
        turns = []
        if task == "talk":
            questions, answer = r.choice(P.TALK)
            return None, [(r.choice(questions), answer)], task
        if task in ("word", "number", "digit"):
            if task == "word":
                s, q = self.string(), self.ask(P.WORD)
            elif task == "digit":
                s, q = str(r.randint(0, 9)), self.ask(P.DIGIT + P.NUMBER, digits=1)
            else:
                n = r.choices([1, 2, 3], [2, 4, 6])[0] if not self.warm else r.randint(max(1, min(3, self.longest) - 2), min(3, self.longest))
                s, q = str(r.randint(10 ** (n - 1) if n > 1 else 0, 10 ** n - 1)), self.ask(P.NUMBER if r.random() < 0.85 else P.WORD, digits=1)
            turns.append((q, s))
            if r.random() < self.second:
                turns.append((self.ask(P.WORD if task == "word" else P.NUMBER), s) if task != "word" or r.random() < 0.5 else (self.ask(P.LETTERS, digits=1), str(len(s))))
            return self.text_picture(s), turns, task
        if task == "place":
            return self.place()
        if task == "describe":
            return self.describe()
        if task == "count":
            n = r.choices(range(1, 10), [8, 10, 12, 14, 15, 15, 15, 3, 2])[0]
            single_kind, single_colour = r.random() < 0.5, r.random() < 0.5
        else:
            n = self.few()
            single_kind = task == "shape" or r.random() < 0.6
            single_colour = task == "colour" or r.random() < 0.6
        single_kind, single_colour = single_kind or self.easy, single_colour or self.easy
        kinds = [self.kind()] * n if single_kind else [self.kind() for _ in range(n)]
        if single_colour:
            c = self.colour()
            tint = self.tint(c)
            colours = [c] * n
            paint = [tint if r.random() < 0.7 else c] * n
        else:
            colours = paint = [self.colour() for _ in range(n)]
        uniform = len(set(kinds)) == 1
        plural = lambda: r.choice(P.THINGS) if not uniform or r.random() < 0.55 else kinds[0] + "s"
        one = kinds[0] if uniform and r.random() < 0.5 else r.choice(["shape", "shape", "object", "figure"])
        make = {"count": lambda: (self.ask(P.COUNT, s=plural(), digits=1), str(n)),
                "colour": lambda: (self.ask(P.COLOUR, c=self.spelling(), one=one, s=plural()), colours[0]),
                "shape": lambda: (self.ask(P.SHAPE), kinds[0])}
        if task == "count" and not uniform and r.random() < 0.15:
            k = r.choice(kinds)
            turns.append((self.ask(P.COUNT, s=k + "s", digits=1), str(kinds.count(k))))
        else:
            turns.append(make[task]())
        more = ["count"] + ["colour"] * (len(set(colours)) == 1) + ["shape"] * uniform
        if r.random() < self.second:
            turns.append(make[r.choice(more)]())
        return self.shape_picture(kinds, paint), turns, task

    def place(self):
        """One figure clearly at one side or in the middle."""
        r = self.r
        where = r.choice(["left", "right", "top", "bottom", "center"])
        kind, colour = self.kind(), self.colour()

        def spots(w, h):
            m = min(w, h)
            q = r.uniform(0.05, 0.17) * m
            far, near = r.uniform(0.0, 0.14), r.uniform(-0.1, 0.1)
            side = {"left": (far * w + q, h / 2 + near * h), "right": (w - far * w - q, h / 2 + near * h), "top": (w / 2 + near * w, far * h + q),
                    "bottom": (w / 2 + near * w, h - far * h - q), "center": (w / 2 + near * 0.6 * w, h / 2 + r.uniform(-0.06, 0.06) * h)}
            return [(*side[where], q)]
        one = kind if r.random() < 0.7 else r.choice(["shape", "object"])
        return self.shape_picture([kind], [colour], spots), [(self.ask(P.PLACE, one=one), where)], "place"

    def describe(self):
        """A short sentence about the picture."""
        r = self.r
        x = r.random()
        q = self.ask(P.DESCRIBE)
        if x < 0.25:
            s = self.string()
            return self.text_picture(s), [(q, "the word " + s)], "describe"
        if x < 0.4:
            s = str(r.randint(0, 999))
            return self.text_picture(s), [(q, "the number " + s)], "describe"
        n, c, k = r.choice([1, 1, 1, 2, 3, 4]), self.colour(), self.kind()
        article = "an" if c == "orange" else "a"
        return self.shape_picture([k] * n, [c] * n), [(q, f"{article} {c} {k}" if n == 1 else f"{n} {c} {k}s")], "describe"

    second, easy = 0.0, False


class Encoder:
    """Conversations to token ids, with the grammar of the `univl-chat` template."""

    def __init__(self, folder, image_tokens=64):
        from tokenizers import Tokenizer
        self.tok = Tokenizer.from_file(f"{folder}/tokenizer.json")
        self.image_tokens = image_tokens
        self.memo = {}
        at = self.tok.token_to_id
        self.start, self.end, self.pad = at("<|im_start|>"), at("<|im_end|>"), at("<|endoftext|>")
        self.img, self.img_end, self.context = at("<img>"), at("</img>"), at("<IMG_CONTEXT>")
        self.rows = self.tok.get_vocab_size()

    def text(self, s):
        """Ids of plain text."""
        if s not in self.memo:
            if len(self.memo) > 50000:
                self.memo.clear()
            self.memo[s] = self.tok.encode(s, add_special_tokens=False).ids
        return self.memo[s]

    def chat(self, turns, picture=True, system=P.SYSTEM, image_last=False):
        """(ids, mask): mask is 1 at the tokens the model must say. The last answer may be None: a prompt to continue."""
        ids = [self.start, *self.text("system\n" + system), self.end]
        mask = [0] * len(ids)
        image = [self.img] + [self.context] * self.image_tokens + [self.img_end]
        for i, (question, answer) in enumerate(turns):
            part = [self.start]
            if i == 0 and picture and image_last:
                part += self.text("user\n" + question) + image + self.text("\n")
            elif i == 0 and picture:
                part += self.text("user\n") + image + self.text("\n" + question)
            else:
                part += self.text("user\n" + question)
            part += [self.end, self.start, *self.text("assistant\n")]
            ids += part
            mask += [0] * len(part)
            if answer is not None:
                say = self.text(answer) + [self.end]
                ids += say
                mask += [1] * len(say)
        return ids, mask


def collate(encoder, rows, multiple=4):
    """Arrays of one batch: ids, slot (number of the visual token or -1), flat positions to score and their targets, row of each,
    and the number of leading columns that are the same in every row."""
    length = -(-max(len(ids) for ids, _ in rows) // multiple) * multiple
    ids = np.full((len(rows), length), encoder.pad, np.int64)
    slot = np.full((len(rows), length), -1, np.int64)
    pick, target, owner = [], [], []
    for i, (t, mask) in enumerate(rows):
        ids[i, : len(t)] = t
        where = np.flatnonzero(ids[i] == encoder.context)
        slot[i, where] = np.arange(len(where))
        at = np.flatnonzero(mask)
        pick.append(at - 1 + i * length)
        target.append(ids[i, at])
        owner.append(np.full(len(at), i))
    same = ((ids == ids[0]) & (slot < 0)).all(0)
    common = int(same.argmin())
    return ids, slot, np.concatenate(pick), np.concatenate(target), np.concatenate(owner), common


class Batches:
    """Training batches. A third of the rows are new; the others show a picture drawn before, moved, with its conversation.

    Four batches are made together and cut by length, so that little is computed for padding."""
    POOL, FRESH, GROUP = 1500, 0.36, 4

    def __init__(self, sampler, encoder, size):
        self.sampler, self.encoder, self.size, self.pool, self.ready = sampler, encoder, size, [], []

    def next(self):
        """Pixels uint8 [B,224,224,3] and what `collate` gives, with the task of every new row (None for a repeated one)
        and the answers to CUES, uint8 [len(CUES),B,GRID*GRID]."""
        if not self.ready:
            rows = sorted(self.group(), key=lambda row: len(row[1][0]))
            self.ready = [rows[i: i + self.size] for i in range(0, len(rows), self.size)]
            self.sampler.r.shuffle(self.ready)
        part = self.ready.pop()
        pixels, rows, tasks, seen = zip(*part)
        return np.stack(pixels), *collate(self.encoder, rows), tasks, np.stack(seen, 1)

    def group(self):
        """The rows (pixels, (ids, mask), task, answers to CUES) of a few batches."""
        s, r, blank = self.sampler, self.sampler.r, np.full((SIDE, SIDE, 3), 255, np.uint8)
        x = r.random()  # one group in five varies the prompt; the others share their beginning
        vary, s.second = x < 0.2, float(0.2 < x < 0.3)
        for _ in range(self.size * self.GROUP):
            old = len(self.pool) > 500 and not s.second and r.random() > self.FRESH
            if old:
                pix, turns, task, marks = self.pool[r.randrange(len(self.pool))]
                name, dx, dy = None, 0, 0
                if task != "place":
                    pix, dx, dy = shift(pix, r)
            else:
                image, turns, name = s.draw()
                marks, dx, dy = [] if image is None else s.marks, 0, 0
                pix = None if image is None else shrink(image)
                if pix is not None and not s.second:
                    if len(self.pool) < self.POOL:
                        self.pool.append((pix, turns, name, marks))
                    else:
                        self.pool[r.randrange(self.POOL)] = (pix, turns, name, marks)
            system = r.choice(P.OTHER_SYSTEMS) if vary and r.random() < 0.3 else P.SYSTEM
            yield blank if pix is None else pix, self.encoder.chat(turns, pix is not None, system, vary and r.random() < 0.5), name, cues(marks, dx, dy)
