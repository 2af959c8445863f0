/**
 * A user's own conversations as training samples: JSON lines as ms-swift takes them, `messages` and
 * `images`, also as `train export` writes them. Checks every row when it opens, decodes pictures when
 * they are drawn.
 */
import { createHash } from "node:crypto";
import { basename, dirname, isAbsolute, join } from "node:path";
import { z } from "zod";
import type { Picture } from "@/data/drawing/canvas.ts";
import type { Turn } from "@/data/makers/sample.ts";
import { OperatingError } from "@/errors.ts";
import type { Codec } from "@/media/codec.ts";
import type { StageSample } from "./stage_samples.ts";

const rowSchema = z.object({
  messages: z.array(z.object({
    role: z.enum(["system", "user", "assistant"]),
    content: z.string(),
  })).min(2),
  images: z.array(z.string().min(1)).default([]),
});

type Row = z.infer<typeof rowSchema>;

/** One row as the model learns it. */
interface Conversation {
  readonly systemText: string | undefined;
  readonly turns: readonly Turn[];
  /** Answers come as a thought and a box. */
  readonly thinking: boolean;
  /** Paths as written. */
  readonly images: readonly string[];
}

const PLACEHOLDER = "<image>";
const THINKING_ANSWER = /^<think>([\s\S]*)<\/think>\s*\\boxed\{([\s\S]*)\}$/;

export class DataFile {
  /** Name of the source in mixtures and logs. */
  readonly name: string;
  /** Of the file's bytes: a run goes on with the same data only. */
  readonly sha256: string;
  readonly #folder: string;
  readonly #codec: Codec;
  readonly #lines: readonly string[];

  private constructor(
    path: string,
    options: { text: string; lines: readonly string[]; codec: Codec },
  ) {
    this.name = basename(path);
    this.sha256 = createHash("sha256").update(options.text).digest("hex");
    this.#folder = dirname(path);
    this.#codec = options.codec;
    this.#lines = options.lines;
  }

  /** Throws OperatingError that names the first wrong line. */
  static async open(path: string, codec: Codec): Promise<DataFile> {
    let text: string;
    try {
      text = await Deno.readTextFile(path);
    } catch (cause) {
      throw new OperatingError("invalid_request", `Cannot read the data file ${path}`, { cause });
    }
    const lines: string[] = [];
    for (const [i, line] of text.split("\n").entries()) {
      if (line.trim() === "") continue;
      parseRow(line, `${path}:${i + 1}`);
      lines.push(line);
    }
    if (lines.length === 0) {
      throw new OperatingError("invalid_request", `Cannot use the data file ${path}: it is empty`);
    }
    return new DataFile(path, { text, lines, codec });
  }

  /** Rows. */
  get size(): number {
    return this.#lines.length;
  }

  /** Throws OperatingError when a picture cannot be decoded. */
  async read(index: number): Promise<StageSample> {
    const id = `${this.name}/${index}`;
    const { turns, thinking, systemText, images } = parseRow(this.#lines[index]!, id);
    const pictures = await Promise.all(images.map((image) => this.#decode(image)));
    const truth = { answerKind: "text", facts: {} } as const;
    const sample = { id, task: this.name, pictures, isClip: false, turns, marks: [], truth };
    return { sample, thinking, ...systemText !== undefined && { systemText } };
  }

  async #decode(image: string): Promise<Picture> {
    const path = isAbsolute(image) ? image : join(this.#folder, image);
    let bytes: Uint8Array;
    try {
      bytes = await Deno.readFile(path);
    } catch (cause) {
      throw new OperatingError("invalid_request", `Cannot read ${path} of ${this.name}`, { cause });
    }
    // Upright, as the server shows them to the model.
    const { width, height, data } = await this.#codec.decode(bytes, { applyOrientation: true });
    return { width, height, data: new Uint8Array(data) };
  }
}

/** A row's conversation; throws OperatingError that says what is wrong where. */
export function parseRow(line: string, where: string): Conversation {
  const refuse = (problem: string) =>
    new OperatingError("invalid_request", `Cannot use ${where}: ${problem}`);
  let json: unknown;
  try {
    json = JSON.parse(line);
  } catch {
    throw refuse("it is not JSON");
  }
  const parsed = rowSchema.safeParse(json);
  if (!parsed.success) {
    const [{ path, message }] = parsed.error.issues as [z.core.$ZodIssue];
    throw refuse(`${path.map(String).join(".")}: ${message}`);
  }
  return conversationOf(parsed.data, refuse);
}

function conversationOf(
  { messages, images }: Row,
  refuse: (problem: string) => OperatingError,
): Conversation {
  const [first] = messages;
  const systemText = first!.role === "system" ? first!.content : undefined;
  const spoken = systemText === undefined ? messages : messages.slice(1);
  const turns: Turn[] = [];
  for (let i = 0; i < spoken.length; i += 2) {
    const [user, assistant] = [spoken[i]!, spoken[i + 1]];
    if (user.role !== "user" || assistant?.role !== "assistant") {
      throw refuse("messages do not alternate between user and assistant, the last one answering");
    }
    turns.push({ question: user.content, answer: assistant.content });
  }
  if (turns.length === 0) throw refuse("nobody answers");
  const marks = turns.map(({ question }) => question.split(PLACEHOLDER).length - 1);
  if (marks.slice(1).some((count) => count > 0)) {
    throw refuse(`${PLACEHOLDER} stands after the first question`);
  }
  if (marks[0] !== 0 && marks[0] !== images.length) {
    throw refuse(`${marks[0]} ${PLACEHOLDER} for ${images.length} images`);
  }
  const question = turns[0]!.question.replaceAll(PLACEHOLDER, "").trim();
  const asked = [{ ...turns[0]!, question }, ...turns.slice(1)];
  const thoughts = asked.map(({ answer }) => THINKING_ANSWER.exec(answer));
  const thinking = thoughts.every((match) => match !== null);
  const learnt = asked.map((turn, i) =>
    thinking ? { ...turn, thought: thoughts[i]![1]!, answer: thoughts[i]![2]! } : turn
  );
  return { systemText, turns: learnt, thinking, images };
}
