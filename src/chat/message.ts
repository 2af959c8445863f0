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

/** A video as one file, of which frames are sampled. */
export interface ClipPart {
  readonly type: "clip";
  readonly url: string;
  readonly field: string;
}

export type Part = TextPart | ImagePart | VideoPart | ClipPart;

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

/** One file of a request in prompt order: an image, a frame of a video, or a clip of many frames. */
export interface PictureReference {
  readonly kind: "image" | "frame" | "clip";
  readonly url: string;
  readonly field: string;
  /** Tiles an image may be cut into at most; undefined = the model's own bound. */
  readonly tilesMax: number | undefined;
}

/** The files of all messages in prompt order; `tilesMax` bounds images of normal detail. */
export function listPictures(
  messages: readonly Message[],
  tilesMax: number | undefined,
): PictureReference[] {
  const pictures: PictureReference[] = [];
  for (const part of messages.flatMap((message) => message.parts)) {
    if (part.type === "image") {
      const { url, field, detail } = part;
      pictures.push({ kind: "image", url, field, tilesMax: detail === "low" ? 1 : tilesMax });
    } else if (part.type === "clip") {
      pictures.push({ kind: "clip", url: part.url, field: part.field, tilesMax: undefined });
    } else if (part.type === "video") {
      for (const { url, field } of part.frames) {
        pictures.push({ kind: "frame", url, field, tilesMax: undefined });
      }
    }
  }
  return pictures;
}
