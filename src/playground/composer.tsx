/** The box at the bottom: draft pictures, the question, send and stop. */
import { useRef } from "hono/jsx/dom";
import type { Conversation, PageState } from "./conversation.ts";
import { pictureTypes } from "./picture.ts";
import { PictureView } from "./picture_view.tsx";

interface ComposerProps {
  readonly state: PageState;
  readonly conversation: Conversation;
  readonly question: { current: HTMLTextAreaElement | null };
  readonly addFiles: (files: Iterable<File>) => void;
}

export function Composer({ state, conversation, question, addFiles }: ComposerProps) {
  const send = () => {
    const box = question.current;
    if (box === null || conversation.busy) return;
    conversation.send(box.value.trim());
    if (conversation.busy) box.value = "";
  };
  return (
    <form
      class="composer"
      onSubmit={(event: Event) => {
        event.preventDefault();
        send();
      }}
    >
      {state.draft.length > 0 && <Draft state={state} conversation={conversation} />}
      <div class="ask">
        <PictureButton addFiles={addFiles} />
        <textarea
          ref={question}
          class="question"
          rows={1}
          aria-label="Question"
          placeholder="Ask about a picture"
          onKeyDown={(event: KeyboardEvent) => {
            if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
            event.preventDefault();
            send();
          }}
        />
        {conversation.busy
          ? (
            <button type="button" class="stop" onClick={() => conversation.stop()}>
              Stop
            </button>
          )
          : (
            <button
              type="submit"
              class="send"
              disabled={state.server === "offline" && state.local.phase !== "on"}
            >
              Send
            </button>
          )}
      </div>
    </form>
  );
}

/** The chosen pictures, each with the server's tile grid and a way to remove it. */
function Draft({ state, conversation }: Pick<ComposerProps, "state" | "conversation">) {
  return (
    <ul class="draft" aria-label="Chosen pictures">
      {state.draft.map((picture) => (
        <li key={picture.id}>
          <PictureView picture={picture} grid={state.grids.get(picture.id)} />
          <button
            type="button"
            class="remove"
            aria-label={`Remove ${picture.name}`}
            onClick={() => conversation.removePicture(picture.id)}
          >
            ×
          </button>
        </li>
      ))}
    </ul>
  );
}

/** Opens the browser's file chooser. */
function PictureButton({ addFiles }: Pick<ComposerProps, "addFiles">) {
  const files = useRef<HTMLInputElement>(null);
  return (
    <>
      <input
        ref={files}
        type="file"
        class="visually-hidden"
        accept={pictureTypes.join(",")}
        multiple
        tabIndex={-1}
        aria-label="Picture files"
        onChange={(event: Event) => {
          const input = event.currentTarget as HTMLInputElement;
          const chosen = [...input.files ?? []];
          input.value = ""; // so that choosing the same file again is a change
          addFiles(chosen);
        }}
      />
      <button
        type="button"
        class="icon"
        aria-label="Add pictures"
        title="Add pictures (or drop or paste them)"
        onClick={() => files.current?.click()}
      >
        <svg viewBox="0 0 24 24" aria-hidden="true">
          <path d="M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01" />
        </svg>
      </button>
    </>
  );
}
