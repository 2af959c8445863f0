/**
 * Questions that no maker draws: handwritten digits of real people, and pictures of a second
 * renderer. Read as samples, so that they are asked and graded like all others.
 */
import { dirname, join } from "node:path";
import type { Picture } from "@/data/drawing/canvas.ts";
import type { Sample } from "@/data/makers/sample.ts";
import { OperatingError } from "@/errors.ts";
import { inlineCodec } from "@/media/codec.ts";
import { decodeDataUrl } from "@/media/data_url.ts";

const DIGIT_BYTES = 65;
const CELLS = 8;
/** Most ink of a cell. */
const INK_MAX = 16;
const SIDE = 224;
/** The digit's part of the picture's side. */
const FILL = 0.72;

/** The digits of `models/nano/held_out/digits.bin`, dark on white, cells blended. */
export async function* digitSamples(path: string): AsyncGenerator<Sample> {
  const bytes = await Deno.readFile(path);
  for (let at = 0; at + DIGIT_BYTES <= bytes.length; at += DIGIT_BYTES) {
    const cells = bytes.subarray(at + 1, at + DIGIT_BYTES);
    yield stillSample(`real_digit/${at / DIGIT_BYTES}`, {
      task: "real_digit",
      picture: digitPicture(cells),
      question: "What digit is this?",
      answer: String(bytes[at]!),
    });
  }
}

function stillSample(
  id: string,
  { task, picture, question, answer }: {
    task: string;
    picture: Picture;
    question: string;
    answer: string;
  },
): Sample {
  return {
    id,
    task,
    pictures: [picture],
    isClip: false,
    turns: [{ question, answer }],
    marks: [],
    truth: { answerKind: /^\d+$/.test(answer) ? "number" : "word", facts: {} },
  };
}

/** 8x8 values of ink, enlarged with linear blending. */
function digitPicture(cells: Uint8Array): Picture {
  const data = new Uint8Array(SIDE * SIDE * 3).fill(255);
  const side = Math.round(SIDE * FILL);
  const margin = Math.floor((SIDE - side) / 2);
  const ink = (x: number, y: number) =>
    x < 0 || y < 0 || x >= CELLS || y >= CELLS ? 0 : cells[y * CELLS + x]! / INK_MAX;
  for (let row = 0; row < side; row++) {
    for (let column = 0; column < side; column++) {
      const [u, v] = [column, row].map((at) => (at + 0.5) * CELLS / side - 0.5) as [number, number];
      const [x, y] = [Math.floor(u), Math.floor(v)];
      const [s, t] = [u - x, v - y];
      const value = (ink(x, y) * (1 - s) + ink(x + 1, y) * s) * (1 - t) +
        (ink(x, y + 1) * (1 - s) + ink(x + 1, y + 1) * s) * t;
      const from = ((margin + row) * SIDE + margin + column) * 3;
      data.fill(Math.round(255 * (1 - value)), from, from + 3);
    }
  }
  return { width: SIDE, height: SIDE, data };
}

/** One line of a file of items: the picture as a data URL, or as a file beside it. */
interface Item {
  readonly task: string;
  readonly question: string;
  readonly answer: string;
  readonly picture?: string;
  readonly image?: string;
}

/** Items of a JSONL file. Throws OperatingError naming the line that cannot be used. */
export async function* itemSamples(path: string): AsyncGenerator<Sample> {
  const lines = (await Deno.readTextFile(path)).split("\n").filter((line) => line.trim() !== "");
  const codec = inlineCodec();
  try {
    for (const [i, line] of lines.entries()) {
      const { task, question, answer, picture, image } = JSON.parse(line) as Item;
      if (picture === undefined && image === undefined) {
        const message = `Cannot use ${path}: line ${i + 1} has neither picture nor image`;
        throw new OperatingError("invalid_request", message);
      }
      const bytes = picture === undefined
        ? await Deno.readFile(join(dirname(path), image!))
        : decodeDataUrl(picture, Number.MAX_SAFE_INTEGER);
      const { width, height, data } = await codec.decode(bytes);
      const drawn = { width, height, data: new Uint8Array(data) };
      yield stillSample(`${task}/item/${i}`, { task, picture: drawn, question, answer });
    }
  } finally {
    codec.close();
  }
}
