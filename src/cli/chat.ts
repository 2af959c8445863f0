/** `chat`: a conversation with a model in the terminal. */
import { extname } from "node:path";
import { prepareChat, startChat } from "@/chat/chat.ts";
import { PictureDesk } from "@/chat/images.ts";
import { type Message, NO_THINKING, type Part } from "@/chat/message.ts";
import { freshSeed } from "@/random.ts";
import { greedyParams } from "@/sampling/params.ts";
import { inlineCodec } from "@/media/codec.ts";
import { MediaLoader } from "@/media/media_source.ts";
import { silentLogger } from "@/telemetry/log.ts";
import { Metrics } from "@/telemetry/metrics.ts";
import { type Flags, UsageError } from "./flags.ts";
import { modelFolders, servingOptions } from "./serve.ts";
import { openServing, type Serving } from "./serving.ts";
import { printLine, printText } from "./terminal.ts";

/** A picture file as a message part. */
async function picturePart(path: string): Promise<Part> {
  let bytes: Uint8Array;
  try {
    bytes = await Deno.readFile(path);
  } catch (error) {
    throw new UsageError(`Cannot read picture ${path}: ${(error as Error).message}`);
  }
  const type = extname(path).slice(1).toLowerCase() || "octet-stream";
  return {
    type: "image",
    url: `data:image/${type};base64,${bytes.toBase64()}`,
    detail: "auto",
    field: path,
  };
}

class Conversation {
  readonly #serving: Serving;
  readonly #desk: PictureDesk;
  readonly #messages: Message[] = [];

  constructor(serving: Serving) {
    this.#serving = serving;
    this.#desk = new PictureDesk({
      loader: new MediaLoader({ allowedHosts: [] }),
      codec: inlineCodec(),
    });
  }

  /** Asks, prints the answer as it comes, remembers both. */
  async ask(question: string, pictures: readonly Part[]): Promise<void> {
    const parts: Part[] = [...pictures, { type: "text", text: question }];
    this.#messages.push({ role: "user", parts });
    const model = this.#serving.served;
    const context = { model, desk: this.#desk, signal: new AbortController().signal };
    const conversation = {
      messages: this.#messages,
      thinking: NO_THINKING,
      tilesMax: undefined,
    };
    const prompt = await prepareChat(conversation, context);
    const { maxTokens: _, ...sampling } = { ...greedyParams, seed: freshSeed() };
    const options = {
      sampling,
      maxTokens: undefined,
      choices: 1,
      stops: [],
      skipSpecialTokens: true,
    };
    let answer = "";
    for await (const event of startChat({ id: "chat", options }, { prompt, ...context })) {
      if (event.type !== "delta" || !event.content) continue;
      answer += event.content;
      printText(event.content);
    }
    printText("\n");
    this.#messages.push({ role: "assistant", parts: [{ type: "text", text: answer }] });
  }
}

export async function chat(flags: Flags): Promise<number> {
  const [model] = modelFolders(flags);
  const pictures = await Promise.all(flags.list("image").map(picturePart));
  const serving = await openServing({
    ...servingOptions(flags),
    ...model!,
    log: silentLogger,
    metrics: new Metrics(),
  });
  try {
    const conversation = new Conversation(serving);
    const question = flags.positionals.join(" ");
    if (question) {
      await conversation.ask(question, pictures);
      return 0;
    }
    printLine(`${serving.served.id}: ask, or an empty line to leave`);
    let unseen: readonly Part[] = pictures;
    for (let line = prompt(">"); line; line = prompt(">")) {
      await conversation.ask(line, unseen);
      unseen = [];
    }
    return 0;
  } finally {
    await serving.close();
  }
}
