/**
 * Sample pictures drawn in the page, so that a first try needs no file: a word, a number, shapes.
 * Each kind walks a fixed list; nothing is random.
 */
import type { Picture } from "./picture.ts";

export interface Sample {
  readonly kind: "word" | "number" | "shapes";
  readonly label: string;
  readonly question: string;
  /** Draws variant `turn` (any whole number; it wraps around). */
  readonly draw: (pen: CanvasRenderingContext2D, turn: number) => void;
}

/** Edge of a sample in pixels. */
const size = 224;

const words = ["tree", "lamp", "fish", "home", "wind", "gold", "bird", "salt"];
const numbers = ["42", "307", "85", "610", "19", "274"];
const shapeColors = ["#d62728", "#1f4fd8", "#2ca02c", "#e8a100", "#7b3fb5"];
const shapeKinds = ["circle", "square", "triangle"] as const;

export const samples: readonly Sample[] = [
  {
    kind: "word",
    label: "Read a word",
    question: "What word is written in the image?",
    draw: (pen, turn) => writeText(pen, words[turn % words.length]!),
  },
  {
    kind: "number",
    label: "Read a number",
    question: "What number is written in the image?",
    draw: (pen, turn) => writeText(pen, numbers[turn % numbers.length]!),
  },
  {
    kind: "shapes",
    label: "Count shapes",
    question: "How many shapes are in the image?",
    draw: drawShapes,
  },
];

/** Paints a sample and returns it as a PNG picture. */
export function drawSample(sample: Sample, turn: number, id: number): Picture {
  return paint(id, `${sample.kind}.png`, (pen) => sample.draw(pen, turn));
}

/** The visitor's own word as a picture: proof that nothing is prepared. */
export function drawWord(word: string, id: number): Picture {
  return paint(id, "own-word.png", (pen) => writeText(pen, word));
}

function paint(id: number, name: string, draw: (pen: CanvasRenderingContext2D) => void): Picture {
  const canvas = document.createElement("canvas");
  canvas.width = size;
  canvas.height = size;
  const pen = canvas.getContext("2d");
  if (pen === null) throw new TypeError("Cannot draw a sample: this browser has no 2D canvas");
  pen.fillStyle = "#fff";
  pen.fillRect(0, 0, size, size);
  draw(pen);
  const url = canvas.toDataURL("image/png");
  return { id, name, url, widthPixels: size, heightPixels: size };
}

/** Centred black text as large as fits, at most 72 pixels. */
function writeText(pen: CanvasRenderingContext2D, text: string): void {
  const family = "'DejaVu Sans', Verdana, Arial, sans-serif";
  pen.font = `72px ${family}`;
  const fit = Math.min(
    72,
    Math.floor((72 * (size - 32)) / Math.max(1, pen.measureText(text).width)),
  );
  pen.font = `${fit}px ${family}`;
  pen.fillStyle = "#000";
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillText(text, size / 2, size / 2);
}

/** One to seven shapes of one kind and colour, in the cells of a 3 by 3 grid. */
function drawShapes(pen: CanvasRenderingContext2D, turn: number): void {
  const shapeCount = 1 + ((turn * 3 + 2) % 7);
  const kind = shapeKinds[turn % shapeKinds.length]!;
  pen.fillStyle = shapeColors[turn % shapeColors.length]!;
  const cells = [4, 0, 8, 2, 6, 1, 7, 3, 5].slice(0, shapeCount);
  const pitch = size / 3;
  for (const cell of cells) {
    const x = (cell % 3 + 0.5) * pitch;
    const y = (Math.floor(cell / 3) + 0.5) * pitch;
    drawShape(pen, kind, { x, y, radius: pitch * 0.34 });
  }
}

function drawShape(
  pen: CanvasRenderingContext2D,
  kind: typeof shapeKinds[number],
  { x, y, radius }: { x: number; y: number; radius: number },
): void {
  pen.beginPath();
  if (kind === "circle") pen.arc(x, y, radius, 0, 2 * Math.PI);
  else if (kind === "square") pen.rect(x - radius, y - radius, 2 * radius, 2 * radius);
  else {
    pen.moveTo(x, y - radius);
    pen.lineTo(x + radius, y + radius);
    pen.lineTo(x - radius, y + radius);
    pen.closePath();
  }
  pen.fill();
}
