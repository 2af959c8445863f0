/**
 * Messages as the chat layer sees them: plain data, already validated. OpenAI's spelling of them is
 * `api/schema.ts`; how they become a prompt is `template.ts`.
 */

export type Role = "system" | "user" | "assistant";

export interface TextPart {
  readonly type: "text";
  readonly text: string;
}

/** How much of a picture's detail to keep: `low` is one tile whatever the size. */
export type ImageDetail = "auto" | "low" | "high";

export interface ImagePart {
  readonly type: "image";
  /** `data:` URL, or an http(s) URL that the server may fetch. */
  readonly url: string;
  readonly detail: ImageDetail;
  /** Path of `url` in the request, for error messages. */
  readonly field: string;
}

/** A video as a list of frames, each one tile. */
export interface VideoPart {
  readonly type: "video";
  readonly frames: readonly { readonly url: string; readonly field: string }[];
}

export type Part = TextPart | ImagePart | VideoPart;

/** One turn. Pictures stand only in turns of the user. */
export interface Message {
  readonly role: Role;
  readonly parts: readonly Part[];
}

/** Whether the answer may begin with a chain of thought, and how long that may be. */
export interface Thinking {
  readonly enabled: boolean;
  /** Tokens of thought before it is closed; undefined = no bound but the answer's. */
  readonly budgetTokens: number | undefined;
}

export const NO_THINKING: Thinking = { enabled: false, budgetTokens: undefined };

/** One picture of a request in prompt order: an image, or a frame of a video. */
export interface PictureReference {
  readonly url: string;
  readonly field: string;
  /** Tiles the picture may be cut into at most; undefined = the model's own bound. */
  readonly tilesMax: number | undefined;
}

/** The pictures of all messages in prompt order; `tilesMax` bounds images of normal detail. */
export function listPictures(
  messages: readonly Message[],
  tilesMax: number | undefined,
): PictureReference[] {
  const pictures: PictureReference[] = [];
  for (const part of messages.flatMap((message) => message.parts)) {
    if (part.type === "image") {
      const { url, field, detail } = part;
      pictures.push({ url, field, tilesMax: detail === "low" ? 1 : tilesMax });
    } else if (part.type === "video") {
      for (const { url, field } of part.frames) pictures.push({ url, field, tilesMax: 1 });
    }
  }
  return pictures;
}
