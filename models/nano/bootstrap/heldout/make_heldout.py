"""Held-out pictures by a second renderer, written apart from data.py and never used in training.

Black on white (shapes in plain colours), 224x224, PNG and JPEG by turns, DejaVu and Liberation typefaces, plain questions.
usage: make_heldout.py --out DIR --count N --seed S      (N items per task)
Writes DIR/*.png, DIR/*.jpg and DIR/items.jsonl with {"task","image","question","answer","font","size"}.
"""
import argparse
import json
import random
from pathlib import Path

from PIL import Image, ImageColor, ImageDraw, ImageFont

SIDE = 224
DEJAVU, LIBERATION = "/usr/share/fonts/truetype/dejavu/", "/usr/share/fonts/truetype/liberation/"
FACES = ([DEJAVU + f"DejaVu{f}.ttf" for f in ("Sans", "Sans-Bold", "SansMono", "SansMono-Bold", "Serif", "Serif-Bold")]
         + [LIBERATION + f"Liberation{f}.ttf" for f in ("Sans-Regular", "Sans-Bold", "Sans-Italic", "Serif-Regular", "Serif-Bold", "Serif-Italic",
                                                       "Mono-Regular", "Mono-Bold")])
WORDS = ("cat dog sun moon tree house book fish bird milk bread water apple lemon green chair table door key car bus train ship plane road river lake sea hill "
         "snow rain wind fire stone sand gold iron salt sugar rice meat egg cake tea cup plate fork spoon knife lamp clock phone radio paper pen ink desk bed "
         "wall roof floor glass shirt shoe hat coat belt ring coin bank shop farm barn cow pig hen duck goose horse sheep goat wolf bear lion tiger fox mouse "
         "rat frog snake bee ant fly spider leaf root seed grass rose lily oak pine hand foot head eye ear nose mouth arm leg back neck hair bone skin blood "
         "heart brain love hope dream sleep walk run jump swim sing dance play work read write think speak hear see look give take send keep hold open close "
         "push pull lift drop cut fold wash cook eat drink happy sad angry calm quick slow hot cold warm cool wet dry big small tall short long wide deep high "
         "low new old young full empty hard soft loud quiet light dark clean dirty rich poor safe early late near far left right north south east west one two "
         "three four five six seven eight nine ten day night week month year hour time world earth space star cloud storm beach field park city town street "
         "hotel stop exit start hello thank please sorry yes no and the for with from into over under zebra quiz jazz yacht onyx fuzzy wax vex box fix mix "
         "judge knock pixel query virus waltz").split()
WORDS = sorted({w for w in WORDS if 3 <= len(w) <= 5})
COLOURS = ["red", "green", "blue", "yellow", "purple", "orange", "black"]
KINDS = ["circle", "square", "triangle"]
ASK = {"word": ["What word is written in the image?", "What does the image say?", "Read the text.", "Which word is shown?", "What word is in the picture?",
                "Read the word in the image."],
       "number": ["What is the number in the picture?", "What number is shown?", "Read the number.", "Which number is written in the image?"],
       "count": ["How many shapes are in the image?", "How many shapes are there?", "Count the shapes.", "Count the objects."],
       "colour": ["What color are the shapes in the image?", "What color is the shape?", "What colour is the shape?", "Which color is it?"],
       "shape": ["What shape is shown?", "What shapes are in the image?", "What shape is in the image?", "Which shape is it?"],
       "place": ["Where is the {k}?", "Where is the {k} in the image?"]}


def lettering(rng, s):
    """The string at a random point where all of it is visible."""
    face, size = rng.choice(FACES), rng.randint(20, 72)
    while True:
        font = ImageFont.truetype(face, size)
        x0, y0, x1, y1 = font.getbbox(s)
        if x1 - x0 <= SIDE - 8 and y1 - y0 <= SIDE - 8:
            break
        size -= 2
    im = Image.new("RGB", (SIDE, SIDE), "white")
    x, y = rng.randint(4, SIDE - 4 - (x1 - x0)), rng.randint(4, SIDE - 4 - (y1 - y0))
    ImageDraw.Draw(im).text((x - x0, y - y0), s, fill="black", font=font)
    return im, dict(font=Path(face).stem, size=size)


def boxes(rng, n, low, high):
    """n boxes that keep four pixels apart."""
    while True:
        out = []
        for _ in range(400):
            s = rng.randint(low, high)
            x, y = rng.randint(2, SIDE - s - 2), rng.randint(2, SIDE - s - 2)
            if all(x + s + 4 < a or a + t + 4 < x or y + s + 4 < b or b + t + 4 < y for a, b, t in out):
                out.append((x, y, s))
                if len(out) == n:
                    return out
        high = max(low + 2, high - 4)


def paint(d, kind, box, colour):
    """One filled figure in its box."""
    x, y, s = box
    rgb = ImageColor.getrgb(colour)
    if kind == "circle":
        d.ellipse((x, y, x + s, y + s), fill=rgb)
    elif kind == "square":
        d.rectangle((x, y, x + s, y + s), fill=rgb)
    else:
        d.polygon(((x, y + s), (x + s, y + s), (x + s // 2, y)), fill=rgb)


def scene(rng, kinds, colours, spots=None):
    """A white picture with the figures."""
    n = len(kinds)
    im = Image.new("RGB", (SIDE, SIDE), "white")
    d = ImageDraw.Draw(im)
    spots = spots or boxes(rng, n, 22, 110 if n == 1 else 70 if n < 4 else 52)
    for k, c, b in zip(kinds, colours, spots):
        paint(d, k, b, c)
    return im, {}


def item(rng, task):
    """(picture, answer, facts, question)."""
    ask = rng.choice(ASK[task])
    if task == "word":
        s = rng.choice(WORDS)
        return *lettering(rng, s), s, ask
    if task == "number":
        s = str(rng.randint(10, 999) if rng.random() < 0.6 else rng.randint(10, 99))
        return *lettering(rng, s), s, ask
    if task == "count":
        n = rng.randint(1, 7)
        kinds = [rng.choice(KINDS) for _ in range(n)] if rng.random() < 0.5 else [rng.choice(KINDS)] * n
        colours = [rng.choice(COLOURS) for _ in range(n)] if rng.random() < 0.5 else [rng.choice(COLOURS)] * n
        return *scene(rng, kinds, colours), str(n), ask
    if task == "place":
        k, s, where = rng.choice(KINDS), rng.randint(30, 70), rng.choice(["left", "right", "top", "bottom", "center"])
        mid, edge, end = (SIDE - s) // 2, rng.randint(4, 24), SIDE - s - rng.randint(4, 24)
        x, y = {"left": (edge, mid), "right": (end, mid), "top": (mid, edge), "bottom": (mid, end), "center": (mid, mid)}[where]
        return *scene(rng, [k], [rng.choice(COLOURS)], [(x, y, s)]), where, ask.replace("{k}", k)
    n, k, c = rng.choice([1, 1, 2, 3, 4]), rng.choice(KINDS), rng.choice(COLOURS)
    return *scene(rng, [k] * n, [c] * n), c if task == "colour" else k, ask


def main():
    """Command line."""
    a = argparse.ArgumentParser()
    a.add_argument("--out", type=Path, required=True)
    a.add_argument("--count", type=int, default=200)
    a.add_argument("--seed", type=int, default=20260)
    o = a.parse_args()
    rng = random.Random(o.seed)
    o.out.mkdir(parents=True, exist_ok=True)
    with open(o.out / "items.jsonl", "w", encoding="utf-8") as f:
        for task in ASK:
            for i in range(o.count):
                im, facts, answer, question = item(rng, task)
                name = f"{task}-{i:05d}." + ("png" if i % 2 == 0 else "jpg")
                im.save(o.out / name, **({} if i % 2 == 0 else {"quality": rng.choice([75, 85, 90, 95])}))
                f.write(json.dumps(dict(task=task, image=name, question=question, answer=answer, **facts)) + "\n")


if __name__ == "__main__":
    main()
