/**
 * A judge of thoughts behind an endpoint in OpenAI's form: it sees the picture, the question, the
 * true answer and the reply, and says 1 or 0. What goes wrong (no answer in time, an error, anything
 * but 1 or 0) is null, never 0.
 */
import { Buffer } from "node:buffer";
import { encodePng } from "@/data/drawing/png.ts";
import type { Reward } from "./rewards.ts";
import type { JudgedReply, ThoughtJudge } from "./thought_judge.ts";

export interface HttpJudgeOptions {
  /** Of the API, as `http://host:8000/v1`. */
  readonly url: string;
  readonly model: string;
  readonly key?: string | undefined;
  /** Wall time of one judgement. */
  readonly timeoutMs: number;
  /** Requests at a time. */
  readonly concurrency: number;
  readonly fetch: typeof fetch;
  /** Told why a reply could not be judged. */
  readonly onFailure?: (reason: string) => void;
}

const INSTRUCTION =
  "You grade the reasoning of a model that looked at the image. Say 1 if all of this holds, else " +
  "0: the reasoning is logically sound; it says nothing that contradicts the image; it leads to " +
  "the answer given. Reply with the single character 1 or 0.";

export class HttpJudge implements ThoughtJudge {
  readonly name: string;
  readonly #options: HttpJudgeOptions;

  constructor(options: HttpJudgeOptions) {
    this.#options = options;
    this.name = `${options.url} ${options.model}`;
  }

  async judge(replies: readonly JudgedReply[]): Promise<Reward[]> {
    const rewards: Reward[] = replies.map(() => null);
    let next = 0;
    const work = async () => {
      while (next < replies.length) {
        const at = next++;
        rewards[at] = await this.#judgeOne(replies[at]!);
      }
    };
    await Promise.all(Array.from({ length: this.#options.concurrency }, work));
    return rewards;
  }

  async #judgeOne(judged: JudgedReply): Promise<Reward> {
    const { url, key, timeoutMs, fetch, onFailure } = this.#options;
    try {
      const response = await fetch(`${url.replace(/\/+$/, "")}/chat/completions`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          ...(key !== undefined && { authorization: `Bearer ${key}` }),
        },
        body: JSON.stringify(this.#request(judged)),
        signal: AbortSignal.timeout(timeoutMs),
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`status ${response.status}`);
      return verdictOf(text);
    } catch (error) {
      // A judge that fails says nothing about the answer.
      onFailure?.(error instanceof Error ? error.message : String(error));
      return null;
    }
  }

  #request({ sample, reply }: JudgedReply): unknown {
    const { question, answer } = sample.turns[0]!;
    const images = sample.pictures.map((picture) => ({
      type: "image_url",
      image_url: {
        url: `data:image/png;base64,${Buffer.from(encodePng(picture)).toString("base64")}`,
      },
    }));
    const text = `${INSTRUCTION}\n\nQuestion: ${question}\nTrue answer: ${answer}\nReply: ${reply}`;
    return {
      model: this.#options.model,
      messages: [{ role: "user", content: [...images, { type: "text", text }] }],
      temperature: 0,
      max_tokens: 16,
    };
  }
}

/** The verdict in a completion; throws Error for anything but 1 or 0. */
function verdictOf(text: string): 0 | 1 {
  const completion = JSON.parse(text) as {
    choices?: readonly { message?: { content?: unknown } }[];
  };
  const content = completion.choices?.[0]?.message?.content;
  const verdict = typeof content === "string" ? content.trim() : "";
  if (verdict === "1") return 1;
  if (verdict === "0") return 0;
  throw new Error(`the judge said ${JSON.stringify(content)?.slice(0, 80)}, expected 1 or 0`);
}
