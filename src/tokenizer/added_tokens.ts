/**
 * Added tokens: the markers outside the byte-pair vocabulary, the table of this model family, and
 * their search in text. Does not decide when they may match; the caller of `encode` does.
 */

/** A marker that is one token wherever it is matched. */
export interface AddedToken {
  id: number;
  content: string;
  /** Hidden by `skipSpecialTokens`. */
  special: boolean;
  /** Searched in normalised instead of raw text. Default false, as in this family. */
  normalized?: boolean;
}

/** The added tokens of SAIL-VL2 in id order; contents and flags are those of the release. */
export const FAMILY_ADDED_TOKENS: readonly { content: string; special: boolean }[] = [
  { content: "<|endoftext|>", special: true },
  { content: "<|im_start|>", special: true },
  { content: "<|im_end|>", special: true },
  { content: "<|object_ref_start|>", special: true },
  { content: "<|object_ref_end|>", special: true },
  { content: "<|box_start|>", special: true },
  { content: "<|box_end|>", special: true },
  { content: "<|quad_start|>", special: true },
  { content: "<|quad_end|>", special: true },
  { content: "<|vision_start|>", special: true },
  { content: "<|vision_end|>", special: true },
  { content: "<|vision_pad|>", special: true },
  { content: "<|image_pad|>", special: true },
  { content: "<|video_pad|>", special: true },
  { content: "<tool_call>", special: false },
  { content: "</tool_call>", special: false },
  { content: "<|fim_prefix|>", special: false },
  { content: "<|fim_middle|>", special: false },
  { content: "<|fim_suffix|>", special: false },
  { content: "<|fim_pad|>", special: false },
  { content: "<|repo_name|>", special: false },
  { content: "<|file_sep|>", special: false },
  { content: "<tool_response>", special: false },
  { content: "</tool_response>", special: false },
  { content: "<think>", special: false },
  { content: "</think>", special: false },
  { content: "<img>", special: true },
  { content: "</img>", special: true },
  { content: "<IMG_CONTEXT>", special: true },
  { content: "<quad>", special: true },
  { content: "</quad>", special: true },
  { content: "<ref>", special: true },
  { content: "</ref>", special: true },
  { content: "<box>", special: true },
  { content: "</box>", special: true },
];

/** The family's added tokens with consecutive ids from `firstId`. */
export function familyAddedTokens(firstId: number): AddedToken[] {
  return FAMILY_ADDED_TOKENS.map((token, index) => ({ id: firstId + index, ...token }));
}

/** Which added tokens a search may find. */
export type TokenFilter = (id: number) => boolean;

/** An occurrence in text: UTF-16 offsets, end exclusive. */
export interface AddedTokenMatch {
  start: number;
  end: number;
  id: number;
}

interface TrieNode {
  children: Map<number, TrieNode>;
  id: number | undefined;
}

/** Finds added tokens: the leftmost first, among those at one position the longest. */
export class AddedTokenSearch {
  readonly #root: TrieNode = { children: new Map(), id: undefined };

  constructor(tokens: Iterable<AddedToken>) {
    for (const { content, id } of tokens) {
      let node = this.#root;
      for (let i = 0; i < content.length; i++) {
        const unit = content.charCodeAt(i);
        let child = node.children.get(unit);
        if (child === undefined) {
          node.children.set(unit, child = { children: new Map(), id: undefined });
        }
        node = child;
      }
      node.id = id;
    }
  }

  /** Next occurrence at or after `from`. Time: text length times the longest token at most. */
  find(text: string, from: number, isAllowed: TokenFilter): AddedTokenMatch | undefined {
    if (this.#root.children.size === 0) return undefined;
    for (let start = from; start < text.length; start++) {
      let node = this.#root.children.get(text.charCodeAt(start));
      let match: AddedTokenMatch | undefined;
      for (let end = start + 1; node !== undefined; end++) {
        if (node.id !== undefined && isAllowed(node.id)) match = { start, end, id: node.id };
        node = end < text.length ? node.children.get(text.charCodeAt(end)) : undefined;
      }
      if (match !== undefined) return match;
    }
    return undefined;
  }
}
