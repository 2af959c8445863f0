/** What tests do inside a page: drawing pictures, and asking a model that runs there. */
import type { Page } from "playwright-core";
import type { ChatChunk, EngineDescription, LoadOptions, LocalModel } from "@/web/flotilla.ts";

/** What the page keeps between calls. */
interface PageGlobals {
  model?: LocalModel;
}

export type PageLoadOptions =
  & Pick<LoadOptions, "backend" | "variant" | "threads">
  & { readonly kept?: boolean; readonly from?: string };

export interface Loaded {
  readonly description?: EngineDescription;
  readonly failure?: { readonly code: string; readonly message: string };
  readonly phases: readonly string[];
}

/** Loads nano in the page and keeps it there; an error comes back as data. */
export function loadInPage(page: Page, options: PageLoadOptions = {}): Promise<Loaded> {
  return page.evaluate(async ({ kept, from = "/web/models/nano/", ...rest }) => {
    const { loadModel } = await import("/web/flotilla.js" as string);
    const phases = new Set<string>();
    const held = globalThis as PageGlobals;
    held.model?.close();
    try {
      held.model = await loadModel({
        source: kept ? { kept: from } : from,
        onProgress: (progress: { phase: string }) => phases.add(progress.phase),
        ...rest,
      });
      return { description: held.model!.description, phases: [...phases] };
    } catch (error) {
      const { code, message } = error as { code: string; message: string };
      return { failure: { code, message }, phases: [...phases] };
    }
  }, options);
}

export interface Question {
  readonly pictures: readonly string[];
  readonly text: string;
  readonly fields?: Readonly<Record<string, unknown>>;
}

export interface Answer {
  readonly text: string;
  readonly tokenIds: readonly number[];
  readonly chunkCount: number;
  readonly finish: string | null;
  readonly numericClass: string;
}

/** The messages of a question, as both the API and the page take them. */
export function messagesOf({ pictures, text }: Question) {
  const parts = pictures.map((url) => ({ type: "image_url" as const, image_url: { url } }));
  return [{ role: "user" as const, content: [...parts, { type: "text" as const, text }] }];
}

/** What the page's model answers. */
export function askInPage(page: Page, question: Question): Promise<Answer> {
  return page.evaluate(async ({ messages, fields }) => {
    const { model } = globalThis as PageGlobals;
    const answer = {
      ...{ text: "", tokenIds: [] as number[], chunkCount: 0, numericClass: "" },
      finish: null as string | null,
    };
    const options = { return_token_ids: true, ...fields };
    for await (const chunk of model!.chat(messages, options)) {
      const choice = chunk.choices[0];
      answer.chunkCount++;
      answer.numericClass = chunk.system_fingerprint;
      answer.text += choice?.delta.content ?? "";
      answer.tokenIds.push(...choice?.token_ids ?? []);
      answer.finish = choice?.finish_reason ?? answer.finish;
    }
    return answer;
  }, { messages: messagesOf(question), fields: question.fields ?? {} });
}

/** The same from a server. */
export async function askServer(origin: string, question: Question): Promise<Answer> {
  const response = await fetch(`${origin}/v1/chat/completions`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({
      messages: messagesOf(question),
      return_token_ids: true,
      ...question.fields,
    }),
  });
  const body = await response.json();
  const [choice] = body.choices;
  return {
    text: choice.message.content,
    tokenIds: choice.token_ids,
    chunkCount: 1,
    finish: choice.finish_reason,
    numericClass: body.system_fingerprint,
  };
}

export type DrawnPicture = { readonly word: string; readonly type?: string } | {
  readonly shapes: number;
  readonly type?: string;
};

/** Pictures drawn by the browser, as data: URLs. */
export function drawInPage(page: Page, pictures: readonly DrawnPicture[]): Promise<string[]> {
  return page.evaluate((pictures) =>
    pictures.map((picture) => {
      const canvas = document.createElement("canvas");
      canvas.width = 224;
      canvas.height = 224;
      const pen = canvas.getContext("2d")!;
      pen.fillStyle = "#fff";
      pen.fillRect(0, 0, 224, 224);
      pen.fillStyle = "#1f4fd8";
      if ("word" in picture) {
        pen.font = "56px DejaVu Sans, sans-serif";
        pen.textAlign = "center";
        pen.fillText(picture.word, 112, 130);
      } else {
        for (let i = 0; i < picture.shapes; i++) {
          pen.fillRect(20 + (i % 3) * 66, 20 + Math.floor(i / 3) * 66, 44, 44);
        }
      }
      return canvas.toDataURL(picture.type ?? "image/png");
    }), pictures);
}

/** Aborts an answer after its first text; tells how it ended and that the engine goes on. */
export function stopInPage(page: Page): Promise<{ error: string; tokensBefore: number }> {
  return page.evaluate(async () => {
    const { model } = globalThis as PageGlobals;
    const controller = new AbortController();
    let tokensBefore = 0;
    const messages = [{ role: "user" as const, content: "Describe everything." }];
    const options = { ignore_eos: true, max_completion_tokens: 1500 };
    try {
      const chunks: AsyncGenerator<ChatChunk> = model!.chat(messages, options, {
        signal: controller.signal,
      });
      for await (const chunk of chunks) {
        if (chunk.choices[0]?.delta.content && ++tokensBefore === 3) controller.abort();
      }
      return { error: "none", tokensBefore };
    } catch (error) {
      return { error: (error as Error).name, tokensBefore };
    }
  });
}
